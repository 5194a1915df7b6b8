"""Which detection found which object at every IoU threshold and size of COCO at once, kept by class in score order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detrofit.data.index import DetectionIndex
from detrofit.evaluation.coco import IOU_THRESHOLDS, MAX_DETECTIONS, SIZE_BOUNDS
from detrofit.evaluation.matching import box_iou_xywh
from detrofit.evaluation.predictions import Predictions, boxes_to_xywh

UNMATCHED, FOUND, NEUTRAL = 0, 1, 2
AREA_RANGES = np.array([(0.0, 1e10), *SIZE_BOUNDS])  # all, small, medium, large


@dataclass(frozen=True)
class ClassMatches:
    """The D detections of one class over all pictures, best score first; what AP of any reweighting needs.

    Attributes:
        image: int64 `[D]`, the picture's position in the index.
        in_range: bool `[4, D]`, the detection's own area lies in the size.
        outcome: int8 `[4, 10, D]` by size and IoU threshold: `UNMATCHED`, `FOUND` (an object that counts) or
            `NEUTRAL` (a crowd object, or one of another size).
        object_images: for each of the four sizes, int64, the picture of each object that counts.
    """

    image: np.ndarray
    in_range: np.ndarray
    outcome: np.ndarray
    object_images: tuple[np.ndarray, ...]


def match_by_size(index: DetectionIndex, predictions: Predictions) -> list[ClassMatches]:
    """Match under COCO's rules for all four sizes; one entry a class, in contiguous order.

    Ties of scores are ordered by original picture id, as COCO's evaluator does.
    """
    order = np.argsort(index.image_ids, kind="stable").tolist()
    images = [_match_image(index, predictions, position) for position in order]
    image = np.repeat(order, [len(each.labels) for each in images]).astype(np.int64)
    labels = np.concatenate([np.zeros(0, np.int64), *(each.labels for each in images)])
    scores = np.concatenate([np.zeros(0), *(each.scores for each in images)])
    empty_ranges, empty_outcome = np.zeros((4, 0), bool), np.zeros((4, len(IOU_THRESHOLDS), 0), np.int8)
    in_range = np.concatenate([empty_ranges, *(each.in_range for each in images)], axis=1)
    outcome = np.concatenate([empty_outcome, *(each.outcome for each in images)], axis=2)
    matches = []
    for label in range(len(index.class_names)):
        chosen = np.flatnonzero(labels == label)
        chosen = chosen[np.argsort(-scores[chosen], kind="stable")]
        matches.append(
            ClassMatches(image[chosen], in_range[:, chosen], outcome[:, :, chosen], _object_images(index, label))
        )
    return matches


@dataclass(frozen=True)
class _ImageMatches:
    labels: np.ndarray
    scores: np.ndarray
    in_range: np.ndarray
    outcome: np.ndarray


def _object_images(index: DetectionIndex, label: int) -> tuple[np.ndarray, ...]:
    owner = np.repeat(np.arange(len(index)), np.diff(index.box_offsets))
    counted = (index.labels == label) & ~index.crowd & _within(index.areas)
    return tuple(owner[row] for row in counted)


def _within(areas: np.ndarray) -> np.ndarray:
    """bool `[4, n]`: which areas lie in which size, bounds included."""
    return (areas >= AREA_RANGES[:, :1]) & (areas <= AREA_RANGES[:, 1:])


def _match_image(index: DetectionIndex, predictions: Predictions, position: int) -> _ImageMatches:
    boxes, scores, labels = predictions.of(position)
    order = np.argsort(-scores, kind="stable")
    order = order[_rank_in_class(labels[order]) < MAX_DETECTIONS]
    boxes_xywh, labels = boxes_to_xywh(boxes[order]), labels[order]
    crowd = index.crowd_of(position)
    iou = box_iou_xywh(boxes_xywh, boxes_to_xywh(index.boxes(position)), crowd)
    iou[labels[:, None] != index.labels_of(position)[None]] = -1
    neutral = crowd | ~_within(index.areas_of(position))
    return _ImageMatches(
        labels,
        scores[order].astype(np.float64),
        _within(boxes_xywh[:, 2:].prod(axis=1)),
        _match_greedily(iou, crowd, neutral),
    )


def _match_greedily(iou: np.ndarray, crowd: np.ndarray, neutral: np.ndarray) -> np.ndarray:
    """Outcomes int8 `[4, 10, D]` of `iou` `[D, G]`, for all sizes (`neutral` is `[4, G]`) and thresholds together."""
    thresholds = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)
    outcome = np.zeros((len(neutral), len(thresholds), len(iou)), np.int8)
    if not iou.size:
        return outcome
    free = np.ones((*outcome.shape[:2], iou.shape[1]), bool)
    counts = ~neutral[:, None, :]
    for row in np.flatnonzero((iou >= thresholds[0]).any(axis=1)):
        candidates = (iou[row] >= thresholds[:, None]) & free
        preferred = candidates & counts
        found = preferred.any(axis=2)
        preferred = np.where(found[..., None], preferred, candidates)
        size, threshold = np.nonzero(preferred.any(axis=2))
        overlaps = np.where(preferred[size, threshold], iou[row], -1)
        column = iou.shape[1] - 1 - overlaps[:, ::-1].argmax(axis=1)  # of equal ones the last, as in COCO's evaluator
        outcome[size, threshold, row] = np.where(found[size, threshold], FOUND, NEUTRAL)
        free[size, threshold, column] = crowd[column]  # a crowd object may be found again
    return outcome


def _rank_in_class(labels: np.ndarray) -> np.ndarray:
    """For each entry how many earlier ones have its label."""
    by_label = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[by_label], labels[by_label])
    ranks = np.empty(len(labels), np.int64)
    ranks[by_label] = np.arange(len(labels)) - starts
    return ranks
