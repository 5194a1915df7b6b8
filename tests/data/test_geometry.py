from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from detrofit.data.demo_scenes import draw_scene
from detrofit.data.geometry import View, flip_horizontally, flip_vertically, iou_crop, render, whole, zoom_out
from detrofit.data.images import LabelledPicture


def picture(seed: int = 0, height: int = 90, width: int = 120) -> LabelledPicture:
    scene = draw_scene(np.random.default_rng(seed), height, width)
    return LabelledPicture(torch.from_numpy(scene.picture).permute(2, 0, 1), scene.boxes, scene.labels)


def single_box(box: list[float], height: int = 90, width: int = 120) -> LabelledPicture:
    """A black picture with one white box."""
    pixels = torch.zeros((3, height, width), dtype=torch.uint8)
    left, top, right, bottom = map(int, box)
    pixels[:, top:bottom, left:right] = 255
    return LabelledPicture(pixels, np.array([box], dtype=np.float32), np.array([0]))


def test_a_view_draws_what_padding_cropping_and_resizing_in_turn_draw() -> None:
    given_picture, view = picture(), View(-40, -12, 85, 70)
    drawn = render(given_picture, view, (64, 64), fill=9)
    padded = functional.pad(given_picture.pixels, [40, 12, 0, 0], fill=9)
    expected = functional.resize(functional.crop(padded, 0, 0, view.height, view.width), [64, 64], antialias=True)
    left, top = round(40 * 64 / view.width), round(12 * 64 / view.height)
    difference = (drawn.pixels.float() - expected.float()).abs()
    assert difference[:, top + 1 :, left + 1 :].mean() < 3
    assert (drawn.pixels[:, :top] == 9).all() and (drawn.pixels[:, :, :left] == 9).all()


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(2, 80), st.integers(2, 60), st.integers(8, 38), st.integers(8, 28)),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_boxes_stay_on_their_objects(box: tuple[int, int, int, int], seed: int, crop: bool) -> None:
    left, top, width, height = box
    source = single_box([left, top, left + width, top + height])
    generator = np.random.default_rng(seed)
    view = zoom_out(generator, whole(source))
    if crop:
        view = iou_crop(generator, view, source.boxes)
    drawn = render(source, view, (160, 160))
    rows, columns = torch.nonzero(drawn.pixels[0] > 127, as_tuple=True)
    for kept in drawn.boxes:
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.abs(kept - np.array(seen)).max() <= 1.01
        assert 0 <= kept[0] < kept[2] <= 160 and 0 <= kept[1] < kept[3] <= 160


def test_zoom_out_holds_the_picture_and_has_torchvisions_spread() -> None:
    generator, transform = np.random.default_rng(0), v2.RandomZoomOut(p=1)
    torch.manual_seed(0)
    views = [zoom_out(generator, View(0, 0, 120, 90)) for _ in range(800)]
    expected = [transform(tv_tensors.Image(torch.empty(3, 90, 120))).shape[-1] for _ in range(800)]
    assert all(view.left <= 0 and view.top <= 0 and view.right >= 120 and view.bottom >= 90 for view in views)
    assert np.quantile([view.width for view in views], [0.1, 0.5, 0.9]) == pytest.approx(
        np.quantile(expected, [0.1, 0.5, 0.9]), rel=0.08
    )


def test_iou_crop_has_torchvisions_spread() -> None:
    source, transform = picture(3), v2.RandomIoUCrop()
    generator = np.random.default_rng(0)
    torch.manual_seed(0)
    boxes = tv_tensors.BoundingBoxes(torch.from_numpy(source.boxes), format="XYXY", canvas_size=(90, 120))
    theirs = [transform(tv_tensors.Image(source.pixels), boxes)[0].shape[-2:] for _ in range(500)]
    ours = [
        (view.height, view.width) for view in (iou_crop(generator, whole(source), source.boxes) for _ in range(500))
    ]
    assert np.mean([size == (90, 120) for size in ours]) == pytest.approx(
        np.mean([tuple(size) == (90, 120) for size in theirs]), abs=0.09
    )
    assert np.mean(ours, axis=0) == pytest.approx(np.mean(theirs, axis=0), rel=0.06)


def test_a_crop_keeps_the_box_that_it_was_chosen_for() -> None:
    source = single_box([50, 40, 60, 52])
    generator = np.random.default_rng(0)
    for _ in range(50):
        view = iou_crop(generator, whole(source), source.boxes)
        assert len(render(source, view, (32, 32)).boxes) == 1


def test_an_empty_picture_is_not_cropped() -> None:
    assert iou_crop(np.random.default_rng(0), View(0, 0, 9, 9), np.zeros((0, 4))) == View(0, 0, 9, 9)


def test_boxes_outside_the_view_or_below_a_pixel_are_dropped() -> None:
    boxes = np.array([[0, 0, 10, 10], [38, 38, 80, 80], [41, 41, 60, 41.5], [30, 30, 52, 52]], dtype=np.float32)
    source = LabelledPicture(torch.zeros((3, 90, 120), dtype=torch.uint8), boxes, np.arange(4))
    drawn = render(source, View(40, 40, 80, 80), (80, 80))
    assert drawn.labels.tolist() == [1, 3]
    assert np.allclose(drawn.boxes, [[0, 0, 80, 80], [0, 0, 24, 24]])


def test_extreme_pictures_are_drawn() -> None:
    generator = np.random.default_rng(0)
    for height, width in ((1, 1), (1, 2000), (2000, 1)):
        box = np.array([[0, 0, width, height]], dtype=np.float32)
        source = LabelledPicture(torch.full((3, height, width), 7, dtype=torch.uint8), box, np.array([0]))
        for _ in range(20):
            view = iou_crop(generator, zoom_out(generator, whole(source)), source.boxes)
            drawn = render(source, view, (32, 64))
            assert drawn.pixels.shape == (3, 32, 64) and (drawn.pixels == 7).any()


@pytest.mark.parametrize("flip", [flip_horizontally, flip_vertically])
def test_a_flip_moves_boxes_with_their_objects_and_undoes_itself(flip) -> None:  # type: ignore[no-untyped-def]
    source = single_box([10, 20, 40, 30])
    flipped = flip(source)
    left, top, right, bottom = flipped.boxes[0].astype(int)
    assert (flipped.pixels[:, top:bottom, left:right] == 255).all() and flipped.pixels.sum() == source.pixels.sum()
    assert not np.array_equal(flipped.boxes, source.boxes)
    assert np.array_equal(flip(flipped).boxes, source.boxes) and torch.equal(flip(flipped).pixels, source.pixels)
