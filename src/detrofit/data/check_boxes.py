"""The data check's look at boxes and classes: arrays only, no picture is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detrofit.data.findings import KEPT_EXAMPLES, Findings
from detrofit.data.index import DetectionIndex
from detrofit.data.reading import BoxFaults, Reading, contiguous_labels, find_faults

SMALLEST_SIDE = 4.0  # pixels at the training resolution: half a cell of the usual finest level
USUAL_QUERIES = 300
WHOLE_IMAGE = 0.99  # share of the picture's area
LARGEST_ELONGATION = 20.0
RARE = 10
LARGEST_IMBALANCE = 50.0
SMALL_AREA, MEDIUM_AREA = 32.0**2, 96.0**2  # COCO's limits, here at the training resolution


@dataclass(frozen=True)
class SplitSummary:
    """What a split holds that can be used; sizes are at the training resolution."""

    split: str
    pictures: int
    background: int
    boxes: int
    crowd: int
    class_counts: tuple[int, ...]
    small: int
    medium: int
    large: int
    typical_sides: tuple[float, float, float]  # 10th, 50th, 90th percentile of the square root of the area


def summarise(index: DetectionIndex, size: tuple[int, int]) -> SplitSummary:
    """Count what is in a split, crowds apart; `size` is the training resolution (height, width)."""
    single = ~index.crowd
    sides = scaled_sides(index, size)[single]
    area = sides[:, 0] * sides[:, 1]
    small, medium = int((area < SMALL_AREA).sum()), int((area < MEDIUM_AREA).sum())
    quantiles = np.quantile(np.sqrt(area), (0.1, 0.5, 0.9)) if len(area) else np.zeros(3)
    counts = np.bincount(index.labels[single], minlength=len(index.class_names))
    low, middle, high = (round(float(each), 1) for each in quantiles)
    return SplitSummary(
        split=index.split,
        pictures=len(index),
        background=int((np.diff(index.box_offsets) == 0).sum()),
        boxes=int(single.sum()),
        crowd=int(index.crowd.sum()),
        class_counts=tuple(counts.tolist()),
        small=small,
        medium=medium - small,
        large=len(area) - medium,
        typical_sides=(low, middle, high),
    )


def scaled_sides(index: DetectionIndex, size: tuple[int, int]) -> np.ndarray:
    """Width and height of every box, float64 `[M,2]`, when its picture is stretched to `size` (height, width)."""
    owner = np.repeat(np.arange(len(index)), np.diff(index.box_offsets))
    original = np.stack([index.widths[owner], index.heights[owner]], axis=1)
    return (index.boxes_xyxy[:, 2:] - index.boxes_xyxy[:, :2]) * size[::-1] / original


def check_labels(findings: Findings, reading: Reading, split: str, category_ids: tuple[int, ...]) -> None:
    """What the labels of a split say that cannot be used or had to be changed."""
    for problem in reading.problems:
        detail = f": {problem.detail}" if problem.detail else ""
        findings.add(problem.code, [f"{problem.where}{detail}"], problem.count)
    labels = contiguous_labels(reading.box_category, category_ids)
    faults = find_faults(reading, labels)
    describe = _RawDescriber(reading, split)
    masks = {
        "unknown-class": faults.unknown_class,
        "degenerate-box": faults.degenerate & ~faults.unknown_class,
        "outside-box": faults.outside & ~faults.unknown_class,
        "clipped-box": faults.clipped & ~faults.unknown_class,
    }
    for code, mask in masks.items():
        _add_boxes(findings, code, mask, describe)
    _add_boxes(findings, "duplicate-box", _repeated(reading, faults, labels, same_class=True), describe)
    _add_boxes(findings, "conflicting-box", _repeated(reading, faults, labels, same_class=False), describe)


class _RawDescriber:
    """Says where a box is and what it is, for the report."""

    def __init__(self, reading: Reading, split: str) -> None:
        self.reading = reading
        self.split = split
        self.names: list[str] = []
        self.classes = dict(zip(reading.category_ids.tolist(), reading.category_names, strict=True))

    def __call__(self, box: int) -> str:
        self.names = self.names or self.reading.names()
        category = int(self.reading.box_category[box])
        corners = ", ".join(f"{number:g}" for number in self.reading.boxes_xyxy[box])
        name = self.names[int(self.reading.box_image[box])]
        return f"{self.split}/{name}: {self.classes.get(category, f'class {category}')} at ({corners})"


def _add_boxes(findings: Findings, code: str, mask: np.ndarray, describe: _RawDescriber) -> None:
    found = np.flatnonzero(mask)
    findings.add(code, [describe(box) for box in found[:KEPT_EXAMPLES].tolist()], len(found))


def _repeated(reading: Reading, faults: BoxFaults, labels: np.ndarray, same_class: bool) -> np.ndarray:
    """Boxes that lie, to a tenth of a pixel, where an earlier box of their picture lies."""
    usable = np.flatnonzero(~faults.unusable & ~reading.crowd)
    place = np.concatenate(
        [reading.box_image[usable, None], np.rint(reading.boxes_xyxy[usable] * 10)], axis=1, dtype=np.float64
    )
    with_class = np.concatenate([place, labels[usable, None]], axis=1)
    repeats_place, repeats_both = _not_first(place), _not_first(with_class)
    repeated = np.zeros(len(labels), bool)
    repeated[usable] = repeats_both if same_class else repeats_place & ~repeats_both
    return repeated


def _not_first(rows: np.ndarray) -> np.ndarray:
    later = np.ones(len(rows), bool)
    if len(rows):
        order = np.lexsort(rows.T)  # stable, so that the first of equal rows stays first
        new = np.concatenate([[True], (np.diff(rows[order], axis=0) != 0).any(axis=1)])
        later[order[new]] = False
    return later


def check_usable_boxes(findings: Findings, index: DetectionIndex, size: tuple[int, int]) -> None:
    """What is suspicious about the boxes that are used, at the training resolution `size` (height, width)."""
    sides = scaled_sides(index, size)
    original = index.boxes_xyxy[:, 2:] - index.boxes_xyxy[:, :2]
    owner = np.repeat(np.arange(len(index)), np.diff(index.box_offsets))
    picture = np.stack([index.widths[owner], index.heights[owner]], axis=1)
    single = ~index.crowd
    masks = {
        "tiny-box": single & (sides.min(axis=1, initial=np.inf) < SMALLEST_SIDE),
        "whole-image-box": single & ((original / picture).prod(axis=1) >= WHOLE_IMAGE),
        "elongated-box": single & (original.max(axis=1, initial=0) > LARGEST_ELONGATION * original.min(axis=1)),
        "crowd-box": index.crowd,
    }
    for code, mask in masks.items():
        found = np.flatnonzero(mask)
        shown = [_describe(index, int(owner[box]), box) for box in found[:KEPT_EXAMPLES].tolist()]
        findings.add(code, shown, len(found))
    counts = np.diff(index.box_offsets)
    crowded = np.flatnonzero(counts > USUAL_QUERIES).tolist()
    findings.add("crowded-image", [f"{index.split}/{index.name(each)}: {counts[each]:,} objects" for each in crowded])


def _describe(index: DetectionIndex, image: int, box: int) -> str:
    corners = ", ".join(f"{number:g}" for number in index.boxes_xyxy[box].tolist())
    return f"{index.split}/{index.name(image)}: {index.class_names[index.labels[box]]} at ({corners})"


def check_classes(findings: Findings, summaries: Sequence[SplitSummary], names: tuple[str, ...]) -> None:
    """Balance of the classes, within and between splits, and names that are easily confused."""
    first: dict[str, str] = {}
    for name in names:
        plain = "".join(name.split()).lower()
        if plain in first:
            findings.add("similar-class-names", [f"'{name}' and '{first[plain]}'"])
        first.setdefault(plain, name)
    total = np.sum([summary.class_counts for summary in summaries], axis=0)
    findings.add("class-without-boxes", [names[each] for each in np.flatnonzero(total == 0)])
    for summary in summaries:
        counts = np.array(summary.class_counts)
        lacking = np.flatnonzero((counts == 0) & (total > 0))
        findings.add("absent-class", [f"{summary.split} has no {names[each]}" for each in lacking])
        if summary.split == "train":
            _check_balance(findings, counts, names)
        if summary.pictures and summary.background > summary.pictures / 2:
            findings.add("mostly-background", [f"{summary.split}: {summary.background:,} of {summary.pictures:,}"])


def _check_balance(findings: Findings, counts: np.ndarray, names: tuple[str, ...]) -> None:
    rare = np.flatnonzero((counts > 0) & (counts < RARE))
    findings.add("rare-class", [f"{names[each]}: {counts[each]}" for each in rare])
    rarer = np.flatnonzero((counts > 0) & (counts * LARGEST_IMBALANCE < counts.max(initial=0)))
    findings.add("class-imbalance", [f"{names[each]}: {counts[each]:,}" for each in rarer])
