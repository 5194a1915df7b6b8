"""Whether an exported file finds what its model finds: on pictures, box by box, and in AP where there are labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from scipy.optimize import linear_sum_assignment

from detrofit.data.demo_scenes import draw_scene
from detrofit.data.index import DetectionIndex
from detrofit.evaluation.drawn_ap import difference_interval, drawn_ap
from detrofit.evaluation.evaluate import evaluate
from detrofit.evaluation.predictions import Predictions
from detrofit.overlap import box_iou
from detrofit.pictures import PictureSource, decode_picture
from detrofit.randomness import derive_seed
from detrofit.runtime.backends import Backend
from detrofit.runtime.preprocess import to_batch

Found = tuple[np.ndarray, np.ndarray, np.ndarray]  # boxes xyxy [K,4] in pixels of the input, scores [K], labels [K]

DRAWN_PICTURES, DRAWN_SIZE = 16, (320, 320)
BATCH = 2  # of a file that takes any number: one picture would not show whether others change its answer
ALWAYS_COMPARED = 10  # best detections of a picture, however low their scores
_OTHER_CLASS = 1e6  # as a cost: never chosen while there is another choice


@dataclass(frozen=True)
class ParityLimits:
    """What an exported file may differ by.

    Attributes:
        box: pixels of the input that a corner may be off, for boxes to match.
        score: that a score may be off, for boxes to match.
        matched_share: least share of the compared detections that match; None where only AP decides.
        ap_drop: that AP may be lower, 0..1.
    """

    box: float = 1.0
    score: float = 0.01
    matched_share: float | None = 0.99
    ap_drop: float = 0.001


@dataclass(frozen=True)
class ParityRecord:
    """How an exported file agrees with its model.

    Attributes:
        pictures: how many both ran on; `source` says which.
        compared: detections of either that reach the threshold or are among the best ten of their picture.
        matched_share: share of them that have a partner among all detections of the other within the limits.
        largest_box_difference, largest_score_difference: of the compared pairs of one class whose boxes overlap by
            half or more; corners in pixels of the input. 0 without such pairs.
        not_finite: detections of the file with a box or a score that is no number; they match nothing.
        ap_torch, ap_file: COCO's AP of both, 0..1; None without labels.
        ap_difference: where the file's less the model's lies in 95 % of drawings of the pictures; None without labels,
            or without any object.
    """

    source: str
    pictures: int
    compared: int
    matched_share: float
    largest_box_difference: float
    largest_score_difference: float
    not_finite: int
    ap_torch: float | None
    ap_file: float | None
    ap_difference: tuple[float, float] | None
    limits: ParityLimits

    def failure(self) -> str | None:
        """What is past the limits, in words; None if nothing is."""
        limits = self.limits
        if self.not_finite:
            return f"{self.not_finite} of its detections have a box or a score that is no number"
        if limits.matched_share is not None and self.matched_share < limits.matched_share:
            return (
                f"{self.matched_share:.1%} of the detections match (limit {limits.matched_share:.1%}); the largest "
                f"differences are {self.largest_box_difference:.3g} pixels and {self.largest_score_difference:.3g}"
            )
        if self.ap_torch is not None and self.ap_file is not None and self.ap_torch - self.ap_file > limits.ap_drop:
            return (
                f"AP is {100 * self.ap_file:.2f} instead of {100 * self.ap_torch:.2f} points on {self.source} "
                f"(it may drop by {100 * limits.ap_drop:g})"
            )
        return None

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.failure() is None}


@dataclass(frozen=True)
class CheckPictures:
    """Pictures to compare on; `index` has their labels, in the same order, where there are any."""

    source: str
    pictures: Sequence[PictureSource]
    index: DetectionIndex | None = None


def drawn_pictures() -> CheckPictures:
    """Scenes drawn from a seed, for models without their data at hand."""
    seeds = (derive_seed(0, "parity", number) for number in range(DRAWN_PICTURES))
    scenes = [draw_scene(np.random.default_rng(seed), *DRAWN_SIZE).picture for seed in seeds]
    return CheckPictures("drawn", scenes)


def split_pictures(index: DetectionIndex) -> CheckPictures:
    """All pictures of a split, with their labels."""
    return CheckPictures(index.split, [index.path(image) for image in range(len(index))], index)


def compare(reference: Backend, other: Backend, checked: CheckPictures, limits: ParityLimits) -> ParityRecord:
    """Run both on all pictures, at the input size of `other`: the reference on one after another, `other` on as many at
    once as it takes."""
    tally = _Tally(limits, other.threshold)
    scored = Predictions(), Predictions()
    for number, (size, *found) in enumerate(_run(reference, other, checked)):
        tally.add(*found)
        for predictions, (boxes, scores, labels) in zip(scored, map(_finite, found), strict=True):
            scale = np.array(size[::-1] * 2, np.float32) / np.array(other.input_size[::-1] * 2, np.float32)
            best = np.argsort(-scores, kind="stable")[: other.max_detections]
            predictions.add(number, boxes[best] * scale, scores[best], labels[best])
    ap_torch, ap_file = (_average_precision(checked.index, each) for each in scored)
    return ParityRecord(
        source=checked.source,
        pictures=len(checked.pictures),
        compared=tally.compared,
        matched_share=tally.matched / max(tally.compared, 1),
        largest_box_difference=tally.box,
        largest_score_difference=tally.score,
        not_finite=tally.not_finite,
        ap_torch=ap_torch,
        ap_file=ap_file,
        ap_difference=_ap_difference(checked.index, *scored),
        limits=limits,
    )


def _run(reference: Backend, other: Backend, checked: CheckPictures) -> Iterator[tuple[tuple[int, int], Found, Found]]:
    """The size of each picture, and what both find in it."""
    size, pictures = other.batch or BATCH, checked.pictures
    starts = range(0, len(pictures), size)
    # The few drawn ones take no bar of their own, which would disturb that of many files.
    for start in track(starts, "comparing", console=Console(stderr=True), disable=checked.index is None):
        decoded = [decode_picture(picture) for picture in pictures[start : start + size]]
        batch = to_batch(decoded, other.input_size)
        together = _found(other, batch)
        for place, pixels in enumerate(decoded):
            [alone] = _found(reference, batch[place : place + 1])
            yield (pixels.shape[0], pixels.shape[1]), alone, together[place]


def _found(backend: Backend, batch: np.ndarray) -> list[Found]:
    """What is in each picture, in pixels of the input."""
    height, width = batch.shape[1:3]
    sides = np.array([width, height, width, height], np.float32)
    return [(boxes * sides, scores, labels) for boxes, scores, labels in zip(*backend(batch), strict=True)]


def _average_precision(index: DetectionIndex | None, predictions: Predictions) -> float | None:
    return None if index is None else evaluate(index, predictions).summary.get("AP")


def _ap_difference(index: DetectionIndex | None, one: Predictions, other: Predictions) -> tuple[float, float] | None:
    if index is None:
        return None
    low, high = difference_interval(drawn_ap(index, one), drawn_ap(index, other))
    return None if math.isnan(low) else (low, high)


class _Tally:
    """Counts and largest differences over pictures."""

    def __init__(self, limits: ParityLimits, threshold: float) -> None:
        self.limits, self.threshold = limits, threshold
        self.compared = self.matched = self.not_finite = 0
        self.box = self.score = 0.0

    def add(self, reference: Found, other: Found) -> None:
        first, second = _finite(reference), _finite(other)
        self.not_finite += len(other[1]) - len(second[1])
        pairs = pair_detections(first, second)
        box, score = differences(first, second, pairs)
        agrees = (box <= self.limits.box) & (score <= self.limits.score)
        overlaps = box_iou(first[0][pairs[0]], second[0][pairs[1]]) >= 0.5
        for found, rows in ((first, pairs[0]), (second, pairs[1])):
            counts = self._counts(found[1])
            self.compared += int(counts.sum())
            self.matched += int((counts[rows] & agrees).sum())
            chosen = counts[rows] & overlaps
            self.box = max(self.box, float(box[chosen].max(initial=0)))
            self.score = max(self.score, float(score[chosen].max(initial=0)))

    def _counts(self, scores: np.ndarray) -> np.ndarray:
        """Which detections of a picture are compared."""
        place = np.argsort(np.argsort(-scores, kind="stable"), kind="stable")
        return (scores >= self.threshold) | (place < ALWAYS_COMPARED)


def _finite(found: Found) -> Found:
    """Those detections whose numbers are numbers."""
    boxes, scores, labels = found
    kept = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    return boxes[kept], scores[kept], labels[kept]


def pair_detections(first: Found, second: Found) -> tuple[np.ndarray, np.ndarray]:
    """Rows of `first` and of `second` that go together: same class, and the least difference over all pairs.

    The order of detections decides nothing, since nearly equal scores may come in any order.
    """
    box = np.abs(first[0][:, None] - second[0][None]).max(axis=2)
    score = np.abs(first[1][:, None] - second[1][None])
    other_class = first[2][:, None] != second[2][None]
    rows, columns = linear_sum_assignment(np.minimum(box + 100 * score, _OTHER_CLASS) + _OTHER_CLASS * other_class)
    same = ~other_class[rows, columns]
    return rows[same], columns[same]


def differences(first: Found, second: Found, pairs: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The largest difference of a corner, and that of the scores, of each pair."""
    rows, columns = pairs
    return np.abs(first[0][rows] - second[0][columns]).max(axis=1), np.abs(first[1][rows] - second[1][columns])
