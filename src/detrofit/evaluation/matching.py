"""Which detection found which object, under COCO's rules: what operating points, confusions and resampling rest on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detrofit.data.index import DetectionIndex
from detrofit.evaluation.coco import MAX_DETECTIONS
from detrofit.evaluation.predictions import Predictions, boxes_to_xywh

NOT_MATCHED = -1


@dataclass(frozen=True)
class Matches:
    """All D detections of a split, image after image and best score first, with the object that each one found.

    Attributes:
        iou_thresholds: T thresholds.
        image_index: int64 `[D]`, the picture's position in the index.
        label: int64 `[D]`, contiguous class.
        score: float64 `[D]`, so that a threshold halfway between two float32 scores tells them apart.
        matched_object: int64 `[T, D]`, position in the index's boxes, or `NOT_MATCHED`.
        ignored: bool `[T, D]`, found a crowd object: neither right nor wrong.
        position: int64 `[D]`, the detection's position among those of its picture in the predictions.
    """

    iou_thresholds: tuple[float, ...]
    image_index: np.ndarray
    label: np.ndarray
    score: np.ndarray
    matched_object: np.ndarray
    ignored: np.ndarray
    position: np.ndarray

    @property
    def true_positive(self) -> np.ndarray:
        """bool `[T, D]`: found an object that counts."""
        return (self.matched_object != NOT_MATCHED) & ~self.ignored


def match_detections(
    index: DetectionIndex, predictions: Predictions, iou_thresholds: Sequence[float] = (0.5,)
) -> Matches:
    """Match detections to objects of their class, best score first, each to the free object that it overlaps most.

    An object is found once; a crowd object may be found by many. Of a class in a picture the best 100 detections
    count. A match made for all scores is the match for any score threshold, restricted to what passes it.
    """
    parts = [_match_image(index, predictions, image_index, iou_thresholds) for image_index in range(len(index))]
    empty = np.zeros((len(iou_thresholds), 0), np.int64)
    return Matches(
        tuple(iou_thresholds),
        image_index=np.repeat(np.arange(len(index)), [len(part.order) for part in parts]),
        label=np.concatenate([np.zeros(0, np.int64), *(part.labels for part in parts)]),
        score=np.concatenate([np.zeros(0), *(part.scores.astype(np.float64) for part in parts)]),
        matched_object=np.concatenate([empty, *(part.matched for part in parts)], axis=1),
        ignored=np.concatenate([empty.astype(bool), *(part.ignored for part in parts)], axis=1),
        position=np.concatenate([np.zeros(0, np.int64), *(part.order for part in parts)]),
    )


def box_iou_xywh(boxes: np.ndarray, others: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """IoU `[n, m]` of x, y, width, height boxes; against a crowd object, the share of the box that it covers."""
    top_left = np.maximum(boxes[:, None, :2], others[None, :, :2])
    bottom_right = np.minimum(boxes[:, None, :2] + boxes[:, None, 2:], others[None, :, :2] + others[None, :, 2:])
    intersection = (bottom_right - top_left).clip(min=0).prod(axis=2)
    area, other_area = boxes[:, 2:].prod(axis=1), others[:, 2:].prod(axis=1)
    union = np.where(crowd[None], area[:, None], area[:, None] + other_area[None] - intersection)
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


@dataclass(frozen=True)
class _ImageMatches:
    order: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray


def _match_image(
    index: DetectionIndex, predictions: Predictions, image_index: int, iou_thresholds: Sequence[float]
) -> _ImageMatches:
    boxes, scores, labels = predictions.of(image_index)
    order = np.argsort(-scores, kind="stable")
    order = order[_rank_in_class(labels[order]) < MAX_DETECTIONS]
    boxes, scores, labels = boxes[order], scores[order], labels[order]
    crowd = index.crowd_of(image_index)
    iou = box_iou_xywh(boxes_to_xywh(boxes), boxes_to_xywh(index.boxes(image_index)), crowd)
    iou[labels[:, None] != index.labels_of(image_index)[None]] = -1
    first_object = int(index.box_offsets[image_index])
    matched = np.full((len(iou_thresholds), len(order)), NOT_MATCHED, np.int64)
    for row, threshold in zip(matched, iou_thresholds, strict=True):
        _match_greedily(iou, crowd, min(threshold, 1 - 1e-10), row)
    is_crowd = np.append(crowd, False)[matched]  # NOT_MATCHED indexes the appended False
    return _ImageMatches(order, labels, scores, np.where(matched >= 0, matched + first_object, matched), is_crowd)


def _match_greedily(iou: np.ndarray, crowd: np.ndarray, threshold: float, matched: np.ndarray) -> None:
    """Fill `matched` `[D]` with columns of `iou` `[D, G]`, row after row."""
    free = ~crowd
    enough = iou >= threshold
    for row in np.flatnonzero(enough.any(axis=1)):
        for candidates in (enough[row] & free, enough[row] & crowd):
            if candidates.any():
                column = _last_largest(np.where(candidates, iou[row], -1))
                matched[row] = column
                free[column] = False
                break


def _last_largest(values: np.ndarray) -> int:
    """Where the largest value is; of equal ones the last, as in COCO's evaluator."""
    return len(values) - 1 - int(values[::-1].argmax())


def _rank_in_class(labels: np.ndarray) -> np.ndarray:
    """For each entry how many earlier ones have its label."""
    by_label = np.argsort(labels, kind="stable")
    sorted_labels = labels[by_label]
    starts = np.searchsorted(sorted_labels, sorted_labels)
    ranks = np.empty(len(labels), np.int64)
    ranks[by_label] = np.arange(len(labels)) - starts
    return ranks
