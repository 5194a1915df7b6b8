"""The test pictures on which variants differ most from the base, side by side with the boxes of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from detrofit.comparison.analysis import Results
from detrofit.comparison.report.content import Content, signed
from detrofit.comparison.report.differing_pictures import Difference, Sight, Sights
from detrofit.comparison.study import BASE
from detrofit.data.index import DetectionIndex
from detrofit.errors import DetrofitError
from detrofit.pages.blocks import Block, Box, BoxKind, Fold, Panel, PictureRow, Text
from detrofit.pages.pictures import EmbeddedPicture

EACH_WAY = 2  # pictures of a variant where it is better, and where it is worse
_MOST_VARIANTS = 8
SIDE = 512  # pixels of an embedded picture's longer side
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
        return picture_blocks(Content(results), open_test(), folders, say)
    except DetrofitError as error:
        say(f"the report has no pictures: {error}")
        return []


def picture_blocks(
    content: Content,
    index: DetectionIndex,
    folders: Sequence[Path],
    say: Callable[[str], None] = lambda line: None,
) -> list[Block]:
    """A fold for each variant with its pictures of the test split; DetrofitError without predictions or pictures.

    Args:
        folders: of the study, which its runs' paths are relative to; several if studies were joined.
        say: is given a line before each variant, since matching thousands of pictures takes a while.
    """
    sights = Sights(content.results, index, folders)
    names = [each["name"] for each in content.comparisons if each["kind"] != "control" and sights.seeds(each["name"])]
    if not names:
        raise DetrofitError(f"no predictions of the base and a variant with one seed are in {folders[0]}")
    shown = _Shown(index)
    blocks: list[Block] = [Text(_READING, note=True)]
    for place, name in enumerate(names[:_MOST_VARIANTS]):
        say(f"looking for pictures on which {name} differs ({place + 1} of {min(len(names), _MOST_VARIANTS)})")
        blocks.append(_variant(name, sights, shown, is_open=place == 0))
        sights.forget(name)
    if len(names) > _MOST_VARIANTS:
        blocks.append(Text(f"And of {len(names) - _MOST_VARIANTS} more variants, which are left out here.", note=True))
    return blocks


def _variant(name: str, sights: Sights, shown: _Shown, is_open: bool) -> Block:
    better, worse = sights.differences(name, EACH_WAY)
    rows: list[Block] = [_row(name, each, sights, shown) for each in (*better, *worse)]
    return Fold(name, rows or [Text("On no picture does it differ from the base.")], open=is_open)


def _row(name: str, each: Difference, sights: Sights, shown: _Shown) -> PictureRow:
    picture = shown.picture(each.position).picture
    truth = [
        shown.object_box(place, each.position, "truth", shown.name(place)) for place in shown.objects(each.position)
    ]
    title = shown.index.name(each.position)
    panels = [
        Panel(f"truth: {len(truth)} objects", picture, truth, f"{title}: {len(truth)} objects"),
        *(_panel(who, sights.of(who, each.seed), each.position, shown) for who in (BASE, name)),
    ]
    return PictureRow(title, panels, f"F1 {signed(each.f1)} for {name}, seed {each.seed}")


def _panel(who: str, sight: Sight, position: int, shown: _Shown) -> Panel:
    matches = sight.matches
    embedded = shown.picture(position)
    boxes_xyxy, scores, labels = sight.predictions.of(position)
    detections = np.flatnonzero((matches.image_index == position) & sight.counted)
    objects = matches.matched_object[0, detections]
    boxes = []
    for detection, target in zip(matches.position[detections], objects, strict=True):
        kind: BoxKind = "found" if target >= 0 else "false"
        text = f"{shown.index.class_names[labels[detection]]} {scores[detection]:.2f}, {kind}"
        boxes.append(embedded.box(boxes_xyxy[detection], kind, text))
    missed = [place for place in shown.objects(position) if place not in objects]
    boxes += [shown.object_box(place, position, "missed", f"{shown.name(place)}, missed") for place in missed]
    found, false = int((objects >= 0).sum()), int((objects < 0).sum())
    words = f"{who}: {found} found, {false} false, {len(missed)} missed"
    return Panel(words, embedded.picture, boxes, f"{shown.index.name(position)}, {words}")


class _Shown:
    """The pictures of a split as they are embedded, each made once."""

    def __init__(self, index: DetectionIndex) -> None:
        self.index = index
        self._pictures: dict[int, EmbeddedPicture] = {}

    def objects(self, position: int) -> list[int]:
        """The objects of a picture that count, among all of the split."""
        places = range(*self.index.box_offsets[position : position + 2].tolist())
        return [place for place in places if not self.index.crowd[place]]

    def name(self, place: int) -> str:
        """The class of an object."""
        return self.index.class_names[self.index.labels[place]]

    def picture(self, position: int) -> EmbeddedPicture:
        """A picture of the split, small."""
        if position not in self._pictures:
            self._pictures[position] = EmbeddedPicture(self.index.path(position), SIDE)
        return self._pictures[position]

    def object_box(self, place: int, position: int, kind: BoxKind, text: str) -> Box:
        """An object's own box."""
        return self.picture(position).box(self.index.boxes_xyxy[place], kind, text)
