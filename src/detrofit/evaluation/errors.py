"""What kind of error each false detection and each missed object is, after TIDE's definitions (arXiv:2008.08115)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detrofit.data.index import DetectionIndex
from detrofit.evaluation.matching import NOT_MATCHED, Matches, box_iou_xywh
from detrofit.evaluation.predictions import Predictions, boxes_to_xywh

# In the order in which they are looked for, that of the published code: the first that applies is the kind of a false
# detection.
KINDS = ("place", "class", "duplicate", "both", "background")
RIGHT, IGNORED = -1, -2
FOREGROUND_IOU, BACKGROUND_IOU = 0.5, 0.1


@dataclass(frozen=True)
class Errors:
    """The kind of each of the D detections of `matches`, and of each of the M objects of the index.

    Attributes:
        matches: at IoU 0.5.
        kind: int64 `[D]`: position in `KINDS`, `RIGHT`, or `IGNORED` for what found a crowd object.
        target: int64 `[D]`: for the kinds class and place the object (position in the index's boxes) that the
            detection would have found with the right class or place; `NOT_MATCHED` otherwise.
    """

    matches: Matches
    kind: np.ndarray
    target: np.ndarray

    def missed(self, index: DetectionIndex, threshold: float = 0.0) -> np.ndarray:
        """Objects that no detection of at least that score found, nor would with the right class or place: positions
        in the index's boxes."""
        passing = self.matches.score >= threshold
        seen = np.zeros(len(index.labels), bool)
        found = self.matches.matched_object[0]
        seen[found[passing & (self.kind == RIGHT)]] = True
        seen[self.target[passing & (self.target != NOT_MATCHED)]] = True
        return np.flatnonzero(~seen & ~index.crowd)

    def count(self, kind: str, threshold: float = 0.0) -> int:
        """How many detections of at least that score are of that kind."""
        return int(((self.kind == KINDS.index(kind)) & (self.matches.score >= threshold)).sum())


def classify_errors(index: DetectionIndex, predictions: Predictions, matches: Matches) -> Errors:
    """Tell what is wrong with each false detection.

    The first that applies, where IoU is the largest with any object of the class in question:

    - place: from 0.1 to below 0.5 with an object of its class.
    - class: 0.5 or more with an object of another class.
    - duplicate: 0.5 or more with an object of its class, which a detection of a higher score found.
    - both: from 0.1 to below 0.5 with an object of another class.
    - background: less than 0.1 with every object.

    Args:
        matches: of `match_detections`, whose first IoU threshold is 0.5.
    """
    kind = np.full(len(matches.label), RIGHT, np.int64)
    target = np.full(len(matches.label), NOT_MATCHED, np.int64)
    bounds = np.searchsorted(matches.image_index, np.arange(len(index) + 1))
    for image in range(len(index)):
        rows = np.arange(bounds[image], bounds[image + 1])
        wrong = rows[(matches.matched_object[0][rows] == NOT_MATCHED)]
        boxes = predictions.of(image)[0][matches.position[wrong]]
        start, end = index.box_offsets[image : image + 2]
        objects = start + np.flatnonzero(~index.crowd[start:end])
        iou = box_iou_xywh(boxes_to_xywh(boxes), boxes_to_xywh(index.boxes_xyxy[objects]), np.zeros(len(objects), bool))
        kind[wrong], best = _kinds(iou, matches.label[wrong][:, None] == index.labels[objects][None])
        target[wrong] = np.append(objects, NOT_MATCHED)[best]
    kind[matches.ignored[0]] = IGNORED
    return Errors(matches, kind, target)


def _kinds(iou: np.ndarray, same_class: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kinds `[n]` of false detections by their IoU `[n,m]` with objects, and the object meant, -1 for none."""
    columns = np.pad(iou, ((0, 0), (0, 1)))  # a last column stands for no object
    own = np.where(np.pad(same_class, ((0, 0), (0, 1))), columns, 0.0)
    other = np.where(np.pad(~same_class, ((0, 0), (0, 1))), columns, 0.0)
    best_own, best_other = own.max(1, initial=0), other.max(1, initial=0)
    conditions = [
        (best_own >= BACKGROUND_IOU) & (best_own < FOREGROUND_IOU),
        best_other >= FOREGROUND_IOU,
        best_own >= FOREGROUND_IOU,
        best_other >= BACKGROUND_IOU,
    ]
    kind = np.select(conditions, range(4), default=4)
    meant = np.select(conditions[:2], [own.argmax(1), other.argmax(1)], default=-1)
    return kind, meant
