"""Which class is taken for which, what is missed, and what is seen where nothing is."""

from __future__ import annotations

import numpy as np

from detrofit.data.index import DetectionIndex
from detrofit.evaluation.matching import NOT_MATCHED, Matches, box_iou_xywh
from detrofit.evaluation.predictions import Predictions, boxes_to_xywh


def confusion_matrix(index: DetectionIndex, predictions: Predictions, matches: Matches, threshold: float) -> np.ndarray:
    """Counts at one score threshold, int64 `[C+1, C+1]`: rows are the truth, columns the detector's answer.

    The last row is background (false alarms), the last column is missed objects. Detections first keep the objects of
    their own class that they found in `matches` (its first IoU threshold), so that the diagonal holds exactly the true
    positives; what remains is then paired across classes, largest overlap first. Crowd objects do not appear.
    """
    num_classes = len(index.class_names)
    matrix = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    passing = (matches.score >= threshold) & ~matches.ignored[0]
    found = matches.matched_object[0][passing & (matches.matched_object[0] != NOT_MATCHED)]
    np.add.at(matrix, (index.labels[found], index.labels[found]), 1)
    remaining = ~index.crowd
    remaining[found] = False
    wrong = np.flatnonzero(passing & (matches.matched_object[0] == NOT_MATCHED))
    bounds = np.searchsorted(matches.image_index[wrong], np.arange(len(index) + 1))
    for image_index in range(len(index)):
        detections = wrong[bounds[image_index] : bounds[image_index + 1]]
        start, end = index.box_offsets[image_index : image_index + 2]
        objects = start + np.flatnonzero(remaining[start:end])
        boxes = predictions.of(image_index)[0][matches.position[detections]]
        pairs = _pair_across_classes(boxes, index.boxes_xyxy[objects], matches.iou_thresholds[0])
        _count(matrix, index.labels[objects], matches.label[detections], pairs)
    return matrix


def _pair_across_classes(boxes: np.ndarray, objects: np.ndarray, iou_threshold: float) -> list[tuple[int, int]]:
    """(detection, object) pairs of at least the threshold, largest IoU first, each side used once."""
    iou = box_iou_xywh(boxes_to_xywh(boxes), boxes_to_xywh(objects), np.zeros(len(objects), bool))
    detections, found = np.nonzero(iou >= iou_threshold)
    pairs: list[tuple[int, int]] = []
    for best in np.argsort(-iou[detections, found], kind="stable"):
        detection, object_ = int(detections[best]), int(found[best])
        if all(detection != used and object_ != taken for used, taken in pairs):
            pairs.append((detection, object_))
    return pairs


def _count(matrix: np.ndarray, truth: np.ndarray, answers: np.ndarray, pairs: list[tuple[int, int]]) -> None:
    background = len(matrix) - 1
    alarms, missed = np.ones(len(answers), bool), np.ones(len(truth), bool)
    for detection, object_ in pairs:
        matrix[truth[object_], answers[detection]] += 1
        alarms[detection] = missed[object_] = False
    np.add.at(matrix, (np.full(int(alarms.sum()), background), answers[alarms]), 1)
    np.add.at(matrix, (truth[missed], np.full(int(missed.sum()), background)), 1)
