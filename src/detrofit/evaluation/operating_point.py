"""How a detector does at one score threshold: precision, recall, F1, and false alarms where nothing is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detrofit.data.index import DetectionIndex
from detrofit.evaluation.matching import Matches


@dataclass(frozen=True)
class ScoreCurve:
    """Counts as the score threshold falls: what passes `scores[i]` gives the i-th entries.

    Attributes:
        scores: float64 `[n]`, distinct and falling.
        true_positives: int64 `[n]`.
        false_positives: int64 `[n]`.
        objects: how many there are to find.
    """

    scores: np.ndarray
    true_positives: np.ndarray
    false_positives: np.ndarray
    objects: int

    @property
    def precision(self) -> np.ndarray:
        """float64 `[n]` in 0..1: which share of the detections is right."""
        return self.true_positives / (self.true_positives + self.false_positives)

    @property
    def recall(self) -> np.ndarray:
        """float64 `[n]` in 0..1: which share of the objects is found; 0 where there are none."""
        return self.true_positives / max(self.objects, 1)

    @property
    def f1(self) -> np.ndarray:
        """float64 `[n]` in 0..1: harmonic mean of precision and recall."""
        return 2 * self.true_positives / (self.true_positives + self.false_positives + self.objects)

    def at(self, threshold: float) -> OperatingPoint:
        """The counts of all detections whose score is `threshold` or more."""
        passing = int(np.searchsorted(-self.scores, -threshold, side="right"))
        if passing == 0:
            return OperatingPoint(threshold, 0, 0, self.objects)
        return OperatingPoint(
            threshold, int(self.true_positives[passing - 1]), int(self.false_positives[passing - 1]), self.objects
        )

    def best(self, otherwise: float = 0.5) -> OperatingPoint:
        """The point of the largest F1; its threshold lies halfway to the next score, not on a detection.

        The point at the score `otherwise` where F1 is 0 at each, as without objects: none is better than another.
        """
        if not self.f1.any():
            return self.at(otherwise)
        best = int(self.f1.argmax())
        below = self.scores[best + 1] if best + 1 < len(self.scores) else self.scores[best]
        return self.at(float((self.scores[best] + below) / 2))


@dataclass(frozen=True)
class OperatingPoint:
    """Counts at one score threshold, at IoU 0.5."""

    threshold: float
    true_positives: int
    false_positives: int
    objects: int

    @property
    def precision(self) -> float:
        """Which share of the detections is right; NaN without detections."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """Which share of the objects is found; NaN without objects."""
        return _ratio(self.true_positives, self.objects)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; NaN without detections and objects."""
        return _ratio(2 * self.true_positives, self.true_positives + self.false_positives + self.objects)


def score_curve(index: DetectionIndex, matches: Matches, label: int | None = None) -> ScoreCurve:
    """The curve over all classes counted together, or over one; of `matches` the first IoU threshold is read."""
    counted = ~matches.ignored[0]
    objects = ~index.crowd
    if label is not None:
        counted &= matches.label == label
        objects = objects & (index.labels == label)
    scores, right = matches.score[counted], matches.true_positive[0][counted]
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order], right[order]
    last_of_tie = np.append(scores[:-1] != scores[1:], True)[: len(scores)]
    return ScoreCurve(
        scores[last_of_tie], right.cumsum()[last_of_tie], (~right).cumsum()[last_of_tie], int(objects.sum())
    )


@dataclass(frozen=True)
class BackgroundAlarms:
    """What the detector claims to see on pictures without any object."""

    pictures: int
    pictures_with_alarm: int
    alarms: int

    @property
    def per_picture(self) -> float:
        """False alarms for each background picture; NaN without background pictures."""
        return _ratio(self.alarms, self.pictures)


def background_alarms(index: DetectionIndex, matches: Matches, threshold: float) -> BackgroundAlarms:
    """False alarms on pictures without objects, of detections whose score is `threshold` or more."""
    background = np.diff(index.box_offsets) == 0
    alarms = background[matches.image_index] & (matches.score >= threshold)
    pictures_with_alarm = len(np.unique(matches.image_index[alarms]))
    return BackgroundAlarms(int(background.sum()), pictures_with_alarm, int(alarms.sum()))


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else float("nan")
