from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detrofit.data.index import DetectionIndex
from detrofit.evaluation.coco import IOU_THRESHOLDS, RECALL_POINTS, coco_metrics
from detrofit.evaluation.matching import NOT_MATCHED, Matches, match_detections
from detrofit.evaluation.predictions import Predictions
from tests.evaluation.scenes import make_index, random_scene


def average_precision(index: DetectionIndex, matches: Matches, threshold: int, label: int) -> float:
    """COCO's 101-point average precision of one class, from matches alone and without COCO's order of ties."""
    objects = int((~index.crowd & (index.labels == label)).sum())
    chosen = (matches.label == label) & ~matches.ignored[threshold]
    order = np.argsort(-matches.score[chosen], kind="stable")
    right = matches.true_positive[threshold][chosen][order]
    recall, precision = right.cumsum() / objects, right.cumsum() / np.arange(1, len(right) + 1)
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
    return float(envelope[np.searchsorted(recall, RECALL_POINTS)].mean())


@given(st.integers(0, 10_000))
@settings(max_examples=40)
def test_matches_give_cocos_average_precision(seed: int) -> None:
    index, predictions = random_scene(seed)
    for position in range(len(index)):  # distinct scores: COCO orders ties by original image id, matches by position
        scores = predictions[position][1]
        scores += np.random.default_rng(seed + position).random(len(scores)).astype(np.float32) * 1e-3
    matches = match_detections(index, predictions, IOU_THRESHOLDS.tolist())
    precision = coco_metrics(index, predictions).precision
    for label in range(3):
        if (~index.crowd & (index.labels == label)).any():
            for threshold in (0, 5, 9):
                expected = precision[threshold, :, label, 0].mean()
                assert average_precision(index, matches, threshold, label) == pytest.approx(expected, abs=1e-9)


def test_an_object_is_found_once_and_by_the_best_score() -> None:
    index = make_index([[([0, 0, 100, 100], 0)]])
    predictions = Predictions()
    boxes = np.array([[0, 0, 100, 100], [0, 0, 90, 100]], np.float32)
    predictions.add(0, boxes, np.array([0.5, 0.9]), np.array([0, 0]))
    matches = match_detections(index, predictions)
    assert matches.position.tolist() == [1, 0]
    assert matches.matched_object.tolist() == [[0, NOT_MATCHED]]


def test_a_crowd_object_swallows_any_number_of_detections() -> None:
    index = make_index([[([0, 0, 400, 400], 0)]], crowd={0})
    predictions = Predictions()
    boxes = np.array([[0, 0, 20, 20], [50, 50, 70, 70]], np.float32)
    predictions.add(0, boxes, np.array([0.5, 0.9]), np.array([0, 0]))
    matches = match_detections(index, predictions)
    assert matches.ignored.all() and not matches.true_positive.any()
