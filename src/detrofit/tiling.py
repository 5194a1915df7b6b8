"""Large pictures in tiles: where they lie, and one answer for the picture out of those of its tiles; numpy alone."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from detrofit.errors import DetrofitError
from detrofit.overlap import SMALLEST_AREA, box_area, box_iou, shared_area

SAME_IOU = 0.5  # from which two tiles' boxes of a class are one object
COVERED = 0.7  # share of a cut box that a better one must cover to replace it
ALIKE = 0.5  # share of the narrower of two cut boxes, along the seam, that both must have to be pieces of one object
SCORE_RATIO = 0.25  # of the lower score to the higher, up to which boxes may belong to one object
EDGE = 0.03  # of a tile's side: a box that ends closer to the tile's edge is cut there
MEETING = 0.003  # of a tile's side, by which boxes are off: pieces that end no farther apart meet
WHOLE = -1  # the tile number of what the whole picture said
LEFT, TOP, RIGHT, BOTTOM = range(4)


@dataclass(frozen=True)
class Tiling:
    """Square tiles of `size` pixels of the picture, of which neighbours share at least `overlap` pixels.

    The whole picture, shrunk, is looked at too: objects larger than a tile are found there.
    """

    size: int
    overlap: int

    def __post_init__(self) -> None:
        if self.size < 32:
            raise DetrofitError(f"tiles of {self.size} pixels are too small; give 32 or more")
        if not 0 <= self.overlap < self.size:
            raise DetrofitError(
                f"tiles of {self.size} pixels cannot overlap by {self.overlap}; give less than the size"
            )

    def windows(self, height: int, width: int) -> np.ndarray:
        """The tiles of a picture, xyxy int64 `[T,4]` in pixels, row by row; none where one tile holds the picture."""
        if height <= self.size and width <= self.size:
            return np.zeros((0, 4), np.int64)
        rows, columns = (_starts(side, self.size, self.overlap) for side in (height, width))
        return np.array(
            [
                (left, top, min(left + self.size, width), min(top + self.size, height))
                for top in rows
                for left in columns
            ],
            np.int64,
        )


def parse_tiling(text: str) -> Tiling:
    """`SIZE` or `SIZE,OVERLAP` in pixels; the overlap is a quarter of the size by default."""
    parts = text.split(",")
    if len(parts) > 2 or not all(part.strip().isdecimal() for part in parts):
        raise DetrofitError(f"--tile takes SIZE or SIZE,OVERLAP in pixels, not '{text}'")
    size = int(parts[0])
    return Tiling(size, int(parts[1]) if len(parts) == 2 else size // 4)


class TileDetections(NamedTuple):
    """What one tile says: boxes xyxy `[n,4]` in pixels of the tile, scores `[n]`, labels `[n]`."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def merge_tiles(
    windows: np.ndarray, found: Sequence[TileDetections], whole: TileDetections, size: tuple[int, int]
) -> TileDetections:
    """One answer for a picture of `size` (height, width), best first, in its pixels.

    Pieces of an object that lies across a seam and fits into no tile are joined. Then of the boxes that two tiles have
    for one object the better stays: one that is not cut before one that is, and else that of the higher score. Boxes
    of one and the same tile never compete, as the model itself says when objects are close.

    Args:
        windows: of the tiles, xyxy `[T,4]`.
        found: for each tile what it says.
        whole: what the whole picture says, in its own pixels.
    """
    boxes = [np.asarray(each.boxes, np.float64).reshape(-1, 4) for each in (*found, whole)]
    tile = np.repeat([*range(len(found)), WHOLE], [len(each) for each in boxes])
    cut = [_cut_sides(each, window, size) for each, window in zip(boxes, windows)]
    cut.append(np.zeros((len(boxes[-1]), 4), bool))
    shifted = [each + np.tile(window[:2], 2) for each, window in zip(boxes, windows)]
    pool = _Pool(
        np.concatenate([*shifted, boxes[-1]]),
        np.concatenate([each.scores for each in (*found, whole)]),
        np.concatenate([each.labels for each in (*found, whole)]).astype(np.int64),
        tile,
        np.concatenate(cut),
    )
    # Most boxes lie in a few cells of a tile's size.
    cell = int((windows[:, 2:] - windows[:, :2]).max()) if len(windows) else max(size)
    kept = [_best_of_class(_joined(pool.of(label), windows), cell) for label in np.unique(pool.labels)]
    merged = TileDetections(
        np.concatenate([np.zeros((0, 4)), *(each.boxes for each in kept)]).astype(np.float32),
        np.concatenate([np.zeros(0), *(each.scores for each in kept)]).astype(np.float32),
        np.concatenate([np.zeros(0, np.int64), *(each.labels for each in kept)]),
    )
    order = np.argsort(-merged.scores, kind="stable")
    return TileDetections(*(each[order] for each in merged))


@dataclass(frozen=True)
class _Pool:
    """Boxes `[n,4]` in pixels of the picture with scores, labels, the tile of each, and its cut sides `[n,4]`."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    tile: np.ndarray
    cut: np.ndarray

    def of(self, label: int) -> _Pool:
        return self.take(np.flatnonzero(self.labels == label))

    def take(self, rows: np.ndarray) -> _Pool:
        return _Pool(self.boxes[rows], self.scores[rows], self.labels[rows], self.tile[rows], self.cut[rows])


def _starts(side: int, size: int, overlap: int) -> list[int]:
    """Where tiles begin along a side: evenly spread, the last one ending with the picture."""
    if side <= size:
        return [0]
    count = -(-(side - overlap) // (size - overlap))
    return [round(number * (side - size) / (count - 1)) for number in range(count)]


def _cut_sides(boxes: np.ndarray, window: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Which sides of a tile's boxes lie on an edge of the tile that is no edge of the picture, bool `[n,4]`."""
    width, height = window[2] - window[0], window[3] - window[1]
    inside = np.array([window[0] > 0, window[1] > 0, window[2] < size[1], window[3] < size[0]])
    distance = np.stack([boxes[:, 0], boxes[:, 1], width - boxes[:, 2], height - boxes[:, 3]], axis=1)
    return (distance <= EDGE * np.array([width, height, width, height])) & inside


def _joined(pool: _Pool, windows: np.ndarray) -> _Pool:
    """The pool with pieces of one object, seen by tiles on both sides of a seam, replaced by the box around them."""
    group = _groups(pool, windows)
    sizes = np.bincount(group, minlength=len(group))
    alone = pool.take(np.flatnonzero(sizes[group] == 1))
    members = [np.flatnonzero(group == number) for number in np.flatnonzero(sizes > 1)]
    if not members:
        return alone
    around = [np.r_[pool.boxes[rows, :2].min(0), pool.boxes[rows, 2:].max(0)] for rows in members]
    # It is still cut where all pieces that reach farthest are: another row of tiles may see more of the object.
    cut = [(pool.cut[rows] | (np.abs(pool.boxes[rows] - box) > 1)).all(axis=0) for rows, box in zip(members, around)]
    # Joined boxes come first: of equal scores they win over the whole picture's, which is seen less sharply.
    return _Pool(
        np.concatenate([around, alone.boxes]),
        np.concatenate([[pool.scores[rows].max() for rows in members], alone.scores]),
        np.concatenate([[pool.labels[rows[0]] for rows in members], alone.labels]),
        # A joined box belongs to no tile: it competes with the boxes of all of them.
        np.concatenate([[len(windows) + rows[0] for rows in members], alone.tile]),
        np.concatenate([cut, alone.cut]),
    )


def _groups(pool: _Pool, windows: np.ndarray) -> np.ndarray:
    """A number for each box, int64 `[n]` below n, the same for pieces of one object."""
    group = np.arange(len(pool.boxes))
    for side in (RIGHT, BOTTOM):
        free = pool.cut[:, side - 2].copy()
        # The surest pieces choose first; each side of a box goes on in one other box at most.
        for first in _surest_first(pool, np.flatnonzero(pool.cut[:, side])):
            seconds = np.flatnonzero(free)
            fitting = seconds[_go_on(pool, first, seconds, side, windows)]
            if len(fitting):
                second = int(_surest_first(pool, fitting)[0])
                free[second] = False
                group[group == group[second]] = group[first]
    return group


def _surest_first(pool: _Pool, rows: np.ndarray) -> np.ndarray:
    return rows[np.argsort(-pool.scores[rows], kind="stable")]


def _go_on(pool: _Pool, first: int, seconds: np.ndarray, side: int, windows: np.ndarray) -> np.ndarray:
    """In which of `seconds`, cut on their near side, the box `first`, cut on its far `side`, goes on: bool."""
    near = side - 2
    edge, others_edge = windows[pool.tile[first], side], windows[pool.tile[seconds], near]
    one, others = pool.boxes[first], pool.boxes[seconds]
    # Both tiles see the strip that they share, which the pieces of one object fill from edge to edge. In a narrow strip
    # those of two neighbours, one at either edge, fill it as well, but do not overlap by half of it.
    length = edge - windows[pool.tile[first], near]
    strip = edge - others_edge
    slack = np.minimum(EDGE * length, strip / 4)
    fills = (one[near] <= others_edge + slack) & (others[:, side] >= edge - slack)
    fills &= one[side] - others[:, near] >= strip / 2 - MEETING * length
    low, high = (1, 3) if side == RIGHT else (0, 2)
    shared = np.minimum(one[high], others[:, high]) - np.maximum(one[low], others[:, low])
    narrower = np.minimum(one[high] - one[low], others[:, high] - others[:, low])
    apart = (pool.tile[seconds] != pool.tile[first]) & (strip >= 0) & (strip < length)
    return apart & fills & (shared >= ALIKE * narrower) & _similar(pool.scores[first], pool.scores[seconds])


def _similar(score: float, others: np.ndarray) -> np.ndarray:
    """Whether scores are near enough to be of one object: a model has many boxes of hardly any score around each."""
    return (others >= SCORE_RATIO * score) & (score >= SCORE_RATIO * others)


def _best_of_class(pool: _Pool, cell: int) -> _Pool:
    """One box an object: whole ones before cut ones, then by score; each absorbs those of other tiles that it repeats.

    A kept box absorbs one box of each other tile, the one that it overlaps most, so that neighbours both stay; of cut
    boxes it absorbs all that it covers.
    """
    pool = pool.take(np.lexsort((-pool.scores, pool.cut.any(1))))
    kept = _Kept(cell)
    absorbed: dict[int, set[int]] = {}
    any_cut: np.ndarray = np.any(pool.cut, axis=1)
    for row, (box, tile) in enumerate(zip(pool.boxes, pool.tile)):
        chosen = kept.near(box)
        iou = box_iou(box, pool.boxes[chosen])
        competes = pool.tile[chosen] != tile
        cut = bool(any_cut[row])
        if cut:
            competes &= pool.scores[chosen] >= SCORE_RATIO * pool.scores[row]
        same = [place for place in np.flatnonzero(competes & (iou >= SAME_IOU)) if tile not in absorbed[chosen[place]]]
        if same:
            absorbed[chosen[max(same, key=lambda place: iou[place])]].add(int(tile))
        elif not (cut and (competes & (_covered(box, pool.boxes[chosen]) >= COVERED)).any()):
            kept.add(row, box)
            absorbed[row] = set()
    return pool.take(np.array(list(absorbed), np.int64))


class _Kept:
    """Rows of boxes by the square cells of the picture that they touch, so that a box meets its neighbours alone."""

    def __init__(self, cell: int) -> None:
        self.cell = cell
        self._rows: defaultdict[tuple[int, int], list[int]] = defaultdict(list)

    def add(self, row: int, box: np.ndarray) -> None:
        for place in self._cells(box):
            self._rows[place].append(row)

    def near(self, box: np.ndarray) -> np.ndarray:
        """The rows of all boxes that may overlap a box, in their order, int64."""
        return np.array(sorted({row for place in self._cells(box) for row in self._rows.get(place, ())}), np.int64)

    def _cells(self, box: np.ndarray) -> Iterator[tuple[int, int]]:
        left, top, right, bottom = (box // self.cell).astype(int)
        return itertools.product(range(left, right + 1), range(top, bottom + 1))


def _covered(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The share `[n]` of a box xyxy that each of the others covers."""
    return shared_area(box, others) / np.maximum(box_area(box), SMALLEST_AREA)
