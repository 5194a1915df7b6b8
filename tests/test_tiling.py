"""Tiles against scenes where it is known what must come out: a perfect observer reports what each tile shows of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detrofit.errors import DetrofitError
from detrofit.tiling import TileDetections, Tiling, merge_tiles, parse_tiling

SMALLEST_SHARE = 0.15  # of an object that a tile must show for the observer to report it


def observe(objects: np.ndarray, window: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> TileDetections:
    """What a perfect detector sees of `objects` xyxy through a window, in its pixels: objects clipped to it."""
    clipped = np.concatenate(
        [objects[:, :2].clip(window[:2], window[2:]), objects[:, 2:].clip(window[:2], window[2:])], 1
    )
    areas = (clipped[:, 2:] - clipped[:, :2]).prod(1)
    seen = areas >= SMALLEST_SHARE * (objects[:, 2:] - objects[:, :2]).prod(1)
    # An object that a tile shows a part of is less certain there.
    share = areas / (objects[:, 2:] - objects[:, :2]).prod(1)
    return TileDetections((clipped - np.tile(window[:2], 2))[seen], (scores * (0.6 + 0.4 * share))[seen], labels[seen])


def look(objects, size: tuple[int, int], tiling: Tiling, labels=None, smallest_whole: float = 1e9) -> TileDetections:
    """The merged answer; the whole picture shows objects from a side of `smallest_whole` pixels on."""
    objects = np.asarray(objects, float).reshape(-1, 4)
    labels = np.zeros(len(objects), int) if labels is None else np.asarray(labels)
    scores = np.full(len(objects), 0.9)
    windows = tiling.windows(*size)
    found = [observe(objects, window, labels, scores) for window in windows]
    large = (objects[:, 2:] - objects[:, :2]).min(1) >= smallest_whole
    whole = TileDetections(objects[large], scores[large] * 0.8, labels[large])
    return merge_tiles(windows, found, whole, size)


def assert_found(found: TileDetections, objects) -> None:
    expected = np.asarray(objects, np.float32).reshape(-1, 4)
    assert len(found.boxes) == len(expected), found.boxes
    order, wanted = np.lexsort(found.boxes.T), np.lexsort(expected.T)
    np.testing.assert_allclose(found.boxes[order], expected[wanted], atol=0.01)


@given(height=st.integers(1, 3000), width=st.integers(1, 3000), size=st.integers(32, 700), share=st.floats(0, 0.9))
def test_tiles_cover_every_pixel_lie_inside_and_overlap_as_asked(height, width, size, share):
    overlap = int(size * share)
    windows = Tiling(size, overlap).windows(height, width)
    if height <= size and width <= size:
        assert len(windows) == 0
        return
    assert (windows[:, :2] >= 0).all() and (windows[:, 2:] <= (width, height)).all()
    for low, high, side in ((0, 2, width), (1, 3, height)):
        starts = np.unique(windows[:, low])
        ends = np.unique(windows[:, high])
        assert starts[0] == 0 and ends[-1] == side
        assert all(end - start >= overlap for start, end in zip(starts[1:], ends)), "neighbours share the overlap"
    assert (windows[:, 2] - windows[:, 0] == min(size, width)).all()


OBJECTS = {
    "inside a tile": [(10, 10, 50, 60)],
    "in the overlap of two tiles": [(105, 20, 125, 50)],
    "in the overlap of four tiles": [(102, 102, 124, 120)],
    "cut by one tile, whole in its neighbour": [(90, 20, 122, 50), (100, 140, 140, 160)],
    "across a seam, whole in no tile": [(60, 30, 200, 60)],
    "over three tiles": [(40, 20, 300, 60)],
    "across a corner of four tiles": [(70, 70, 160, 165)],
    "tall, across a seam": [(20, 50, 60, 200)],
    "across a seam, and cut by the row of tiles above": [(70, 180, 200, 230)],
    "two neighbours in the overlap": [(100, 20, 118, 50), (108, 20, 126, 50)],
    "touching neighbours at a seam": [(80, 20, 112, 50), (112, 20, 150, 50)],
    "at the borders of the picture": [(0, 0, 30, 30), (350, 350, 384, 384), (0, 100, 20, 140)],
}


@pytest.mark.parametrize("objects", OBJECTS.values(), ids=OBJECTS)
def test_each_object_comes_once_and_whole(objects):
    assert_found(look(objects, (384, 384), Tiling(128, 32)), objects)


NARROW = {
    "neighbours, each at an edge of a strip of 32": (32, [(594, 20, 621, 50), (623, 20, 650, 50)]),
    "neighbours, each at an edge of a strip of 40": (40, [(590, 20, 621, 50), (619, 20, 650, 50)]),
    "neighbours on either side of a seam": (0, [(600, 20, 625, 50), (655, 20, 680, 50)]),
    "across a strip of 32": (32, [(580, 20, 680, 50)]),
    "across a seam": (0, [(580, 20, 680, 50)]),
}


@pytest.mark.parametrize(("overlap", "objects"), NARROW.values(), ids=NARROW)
def test_tiles_that_hardly_overlap_join_pieces_and_not_neighbours(overlap, objects):
    assert_found(look(objects, (100, 1280 - overlap), Tiling(640, overlap)), objects)


def test_an_object_larger_than_a_tile_comes_from_the_whole_picture_alone():
    giant = [(20, 20, 370, 360)]
    found = look(giant, (384, 384), Tiling(128, 32), smallest_whole=100)
    best = found.boxes[0]
    assert np.abs(best - giant[0]).max() < 0.01
    assert len(found.boxes) == 1, "its pieces are covered"


def test_objects_of_two_classes_do_not_compete():
    objects = [(60, 30, 200, 60), (60, 30, 200, 60)]
    found = look(objects, (384, 384), Tiling(128, 32), labels=[0, 3])
    assert sorted(found.labels.tolist()) == [0, 3]


def test_boxes_of_one_tile_never_suppress_each_other():
    windows = Tiling(128, 32).windows(128, 256)
    twins = TileDetections(np.array([[20, 20, 60, 60], [21, 20, 61, 60]], float), np.array([0.9, 0.8]), np.zeros(2))
    nothing = TileDetections(np.zeros((0, 4)), np.zeros(0), np.zeros(0))
    found = merge_tiles(windows, [twins, *[nothing] * (len(windows) - 1)], nothing, (128, 256))
    assert len(found.boxes) == 2 and found.scores.tolist() == pytest.approx([0.9, 0.8])


def test_weak_boxes_around_a_seam_do_not_spoil_the_sure_ones():
    """A model has many boxes of hardly any score; none may stretch a sure box or take its place."""
    tiling, size = Tiling(128, 32), (384, 384)
    sure = np.array([(60, 30, 200, 60)], float)
    windows = tiling.windows(*size)
    generator = np.random.default_rng(0)
    found = []
    for window in windows:
        seen = observe(sure, window, np.zeros(1, int), np.array([0.9]))
        low = generator.uniform(0, 90, (30, 2))
        weak = np.concatenate([low, low + generator.uniform(5, 60, (30, 2))], 1).clip(0, 128)
        scores = np.r_[seen.scores, np.full(30, 0.02)]
        found.append(TileDetections(np.concatenate([seen.boxes, weak]), scores, np.zeros(len(scores))))
    nothing = TileDetections(np.zeros((0, 4)), np.zeros(0), np.zeros(0))
    merged = merge_tiles(windows, found, nothing, size)
    assert_found(TileDetections(*(each[merged.scores > 0.1] for each in merged)), sure)
    assert (np.diff(merged.scores) <= 0).all(), "best first"


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11), st.integers(8, 28), st.integers(8, 28)), max_size=12))
def test_objects_smaller_than_the_overlap_come_exactly_once_wherever_they_are(cells):
    cells = {(x, y): (w, h) for x, y, w, h in cells}
    objects = [(32 * x + 2, 32 * y + 2, 32 * x + 2 + w, 32 * y + 2 + h) for (x, y), (w, h) in cells.items()]
    assert_found(look(objects, (400, 400), Tiling(128, 36)), objects)


@pytest.mark.parametrize(("text", "expected"), [("320,64", Tiling(320, 64)), ("320", Tiling(320, 80))])
def test_tiles_as_text(text, expected):
    assert parse_tiling(text) == expected


@pytest.mark.parametrize("text", ["", "a", "320,", "320,320", "8", "320,64,1", "-4", "²"])
def test_bad_tiles_are_one_line(text):
    with pytest.raises(DetrofitError, match="tile"):
        parse_tiling(text)
