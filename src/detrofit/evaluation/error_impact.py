"""What each kind of error costs: AP at IoU 0.5 with that kind alone put right, less AP as it is (arXiv:2008.08115)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from detrofit.data.index import DetectionIndex
from detrofit.evaluation.coco import RECALL_POINTS
from detrofit.evaluation.errors import IGNORED, KINDS, RIGHT, Errors, classify_errors
from detrofit.evaluation.matching import match_detections
from detrofit.evaluation.predictions import Predictions

MISSED = "missed"


@dataclass(frozen=True)
class ErrorRow:
    """One kind of error.

    Attributes:
        count: all of them, at whatever score; AP sees these.
        at_threshold: those at the operating point's score.
        ap_lost: AP50 in 0..1 that putting this kind right would bring; kinds do not add up to what is lacking.
    """

    kind: str
    count: int
    at_threshold: int
    ap_lost: float


@dataclass(frozen=True)
class ErrorAnalysis:
    """The errors of predictions on a split.

    Attributes:
        ap50: as it is, 0..1.
        threshold: the score that `at_threshold` counts from.
        rows: one for each of `KINDS`, then the missed objects.
    """

    ap50: float
    threshold: float
    rows: list[ErrorRow]
    errors: Errors

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "AP50": None if np.isnan(self.ap50) else self.ap50,
            "threshold": self.threshold,
            "source": "arXiv:2008.08115",
            "kinds": [vars(row) for row in self.rows],
        }


def analyse_errors(index: DetectionIndex, predictions: Predictions, threshold: float) -> ErrorAnalysis:
    """Count the errors of each kind and weigh them by the AP50 that they cost."""
    errors = _by_image_id(index, classify_errors(index, predictions, match_detections(index, predictions)))
    objects = np.bincount(index.labels[~index.crowd], minlength=len(index.class_names))
    counted = errors.kind != IGNORED
    labels, scores, right = errors.matches.label[counted], errors.matches.score[counted], errors.kind[counted] == RIGHT
    as_it_is = _mean_ap(labels, scores, right, objects)
    rows = []
    for kind in KINDS:
        fixed = _put_right(errors, index, kind)
        gained = _mean_ap(*fixed, objects) - as_it_is
        rows.append(ErrorRow(kind, errors.count(kind), errors.count(kind, threshold), max(0.0, gained)))
    missed = errors.missed(index)
    found = objects - np.bincount(index.labels[missed], minlength=len(objects))
    gained = _mean_ap(labels, scores, right, found) - as_it_is
    rows.append(ErrorRow(MISSED, len(missed), len(errors.missed(index, threshold)), max(0.0, gained)))
    return ErrorAnalysis(as_it_is, threshold, rows, errors)


def _by_image_id(index: DetectionIndex, errors: Errors) -> Errors:
    """The errors in the order of their pictures' ids, in which COCO takes detections of equal scores."""
    matches = errors.matches
    order = np.argsort(index.image_ids[matches.image_index], kind="stable")
    ordered = replace(
        matches,
        image_index=matches.image_index[order],
        label=matches.label[order],
        score=matches.score[order],
        matched_object=matches.matched_object[:, order],
        ignored=matches.ignored[:, order],
        position=matches.position[order],
    )
    return Errors(ordered, errors.kind[order], errors.target[order])


def _put_right(errors: Errors, index: DetectionIndex, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores and rightness of the detections with one kind of error put right.

    Wrong class or place: the surest detection of an object that nothing found becomes right, of the object's class;
    the others of it are taken away, as are errors that can only be taken away.
    """
    labels, right = errors.matches.label.copy(), errors.kind == RIGHT
    faulty = errors.kind == KINDS.index(kind)
    keep = (errors.kind != IGNORED) & ~faulty
    if kind in ("class", "place"):
        taken = set(errors.matches.matched_object[0][right].tolist())
        rows = np.flatnonzero(faulty)
        for row in rows[np.argsort(-errors.matches.score[rows], kind="stable")]:
            target = int(errors.target[row])
            if target not in taken:
                taken.add(target)
                labels[row], right[row], keep[row] = index.labels[target], True, True
    return labels[keep], errors.matches.score[keep], right[keep]


def _mean_ap(labels: np.ndarray, scores: np.ndarray, right: np.ndarray, objects: np.ndarray) -> float:
    """COCO's AP at one IoU threshold, mean over classes with objects; NaN where there are none."""
    of_class = [
        _average_precision(scores[labels == label], right[labels == label], int(count))
        for label, count in enumerate(objects)
        if count
    ]
    return float(np.mean(of_class)) if of_class else float("nan")


def _average_precision(scores: np.ndarray, right: np.ndarray, objects: int) -> float:
    """Mean of the interpolated precision at COCO's 101 recall points."""
    hits = np.cumsum(right[np.argsort(-scores, kind="stable")])
    precision = hits / np.arange(1, len(hits) + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    reached = np.searchsorted(hits / objects, RECALL_POINTS, side="left")
    return float(np.append(falling, 0.0)[reached].mean())
