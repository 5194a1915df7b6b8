"""The test pictures on which variants differ most from the base, side by side with the boxes of both."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from detrofit.comparison.analysis import Results
from detrofit.comparison.report.content import Content, signed
from detrofit.comparison.report.differing_pictures import Difference, Sight, Sights
from detrofit.comparison.study import BASE
from detrofit.data.index import DetectionIndex
from detrofit.errors import DetrofitError
from detrofit.pages.blocks import Block, Box, BoxKind, Fold, Panel, Picture, PictureRow, Text
from detrofit.pictures import decode_picture

EACH_WAY = 2  # pictures of a variant where it is better, and where it is worse
_MOST_VARIANTS = 8
_SIDE = 512  # pixels of an embedded picture's longer side
_QUALITY = 78
_READING = (
    "For each variant the pictures whose F1 at IoU 0.5 differs most from the base's, mean over up to three seeds, each "
    "run at the score threshold of its best F1; drawn is the seed nearest to the mean. Solid blue: found. Dashed "
    "orange: false. Dotted yellow: missed. These are extremes, chosen to be seen, and no evidence; that is above."
)


def pictures_if_possible(
    results: Results, open_test: Callable[[], DetectionIndex], folders: Sequence[Path], say: Callable[[str], None]
) -> list[Block]:
    """As `picture_blocks`, but nothing where that is not possible; `say` is given the reason."""
    try:
        return picture_blocks(Content(results), open_test(), folders)
    except DetrofitError as error:
        say(f"the report has no pictures: {error}")
        return []


def picture_blocks(content: Content, index: DetectionIndex, folders: Sequence[Path]) -> list[Block]:
    """A fold for each variant with its pictures of the test split; DetrofitError without predictions or pictures.

    `folders` are those of the study, which its runs' paths are relative to; several if studies were joined.
    """
    sights = Sights(content.results, index, folders)
    names = [each["name"] for each in content.comparisons if each["kind"] != "control" and sights.seeds(each["name"])]
    if not names:
        raise DetrofitError(f"no predictions of the base and a variant with one seed are in {folders[0]}")
    shown = _Shown(index)
    blocks = [_variant(name, sights, shown, is_open=place == 0) for place, name in enumerate(names[:_MOST_VARIANTS])]
    return [Text(_READING, note=True), *blocks]


def _variant(name: str, sights: Sights, shown: _Shown, is_open: bool) -> Block:
    better, worse = sights.differences(name, EACH_WAY)
    rows: list[Block] = [_row(name, each, sights, shown) for each in (*better, *worse)]
    return Fold(name, rows or [Text("On no picture does it differ from the base.")], open=is_open)


def _row(name: str, each: Difference, sights: Sights, shown: _Shown) -> PictureRow:
    objects = [place for place in shown.objects(each.position) if not shown.index.crowd[place]]
    truth = [shown.box(shown.index.boxes_xyxy[place], each.position, "truth", shown.name(place)) for place in objects]
    title = shown.index.name(each.position)
    note = f"F1 {signed(each.f1)} for {name}, seed {each.seed}"
    panels = [
        Panel(f"truth: {len(truth)} objects", shown.picture(each.position), truth, f"{title}: {len(truth)} objects"),
        *(_panel(who, sights.of(who, each.seed), each.position, shown) for who in (BASE, name)),
    ]
    return PictureRow(title, panels, note)


def _panel(who: str, sight: Sight, position: int, shown: _Shown) -> Panel:
    matches = sight.matches
    boxes_xyxy, scores, labels = sight.predictions.of(position)
    detections = np.flatnonzero((matches.image_index == position) & sight.counted)
    objects = matches.matched_object[0, detections]
    boxes = []
    for detection, target in zip(matches.position[detections], objects, strict=True):
        kind: BoxKind = "found" if target >= 0 else "false"
        text = f"{shown.index.class_names[labels[detection]]} {scores[detection]:.2f}, {kind}"
        boxes.append(shown.box(boxes_xyxy[detection], position, kind, text))
    missed = [place for place in shown.objects(position) if not shown.index.crowd[place] and place not in set(objects)]
    boxes += [
        shown.box(shown.index.boxes_xyxy[place], position, "missed", f"{shown.name(place)}, missed") for place in missed
    ]
    found, false = int((objects >= 0).sum()), int((objects < 0).sum())
    words = f"{who}: {found} found, {false} false, {len(missed)} missed"
    return Panel(words, shown.picture(position), boxes, f"{shown.index.name(position)}, {words}")


class _Shown:
    """The pictures of a split as they are embedded, each made once."""

    def __init__(self, index: DetectionIndex) -> None:
        self.index = index
        self._pictures: dict[int, Picture] = {}

    def objects(self, position: int) -> range:
        """The objects of a picture, among all of the split."""
        return range(*self.index.box_offsets[position : position + 2].tolist())

    def name(self, place: int) -> str:
        """The class of an object."""
        return self.index.class_names[self.index.labels[place]]

    def picture(self, position: int) -> Picture:
        """A picture, small, as a JPEG."""
        if position not in self._pictures:
            image = Image.fromarray(decode_picture(self.index.path(position), at_least=(_SIDE, _SIDE)))
            image.thumbnail((_SIDE, _SIDE))
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
            text = base64.b64encode(buffer.getvalue()).decode()
            self._pictures[position] = Picture(f"data:image/jpeg;base64,{text}", image.width, image.height)
        return self._pictures[position]

    def box(self, xyxy: np.ndarray, position: int, kind: BoxKind, text: str) -> Box:
        """A box of the original picture on the embedded one."""
        picture = self.picture(position)
        scale = np.array([picture.width / self.index.widths[position], picture.height / self.index.heights[position]])
        x0, y0, x1, y1 = (np.asarray(xyxy, float) * np.tile(scale, 2)).tolist()
        return Box((x0, y0, x1, y1), kind, text)
