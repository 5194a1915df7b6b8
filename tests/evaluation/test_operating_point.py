from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detrofit.evaluation.confusion import confusion_matrix
from detrofit.evaluation.matching import match_detections
from detrofit.evaluation.operating_point import background_alarms, score_curve
from detrofit.evaluation.predictions import Predictions
from tests.evaluation.scenes import make_index, random_scene

FIRST, SECOND, FAR = [0, 0, 100, 100], [200, 200, 300, 300], [400, 300, 450, 350]


def predict(*images: Sequence[tuple[Sequence[float], float, int]]) -> Predictions:
    predictions = Predictions()
    for position, image in enumerate(images):
        boxes = np.array([box for box, _, _ in image]).reshape(-1, 4)
        predictions.add(position, boxes, np.array([s for _, s, _ in image]), np.array([c for _, _, c in image]))
    return predictions


def test_the_best_threshold_keeps_the_right_detections_and_lies_between_scores() -> None:
    index = make_index([[(FIRST, 0), (SECOND, 1)]])
    predictions = predict([(FIRST, 0.9, 0), (SECOND, 0.6, 1), (FAR, 0.2, 0)])
    best = score_curve(index, match_detections(index, predictions)).best()
    assert 0.2 < best.threshold < 0.6
    assert (best.precision, best.recall, best.f1) == (1.0, 1.0, 1.0)


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_counts_at_a_threshold_equal_those_of_predictions_cut_there(seed: int, threshold: float) -> None:
    index, predictions = random_scene(seed)
    cut = Predictions()
    for position in range(len(index)):
        boxes, scores, labels = predictions[position]
        kept = scores.astype(np.float64) >= threshold
        cut.add(position, boxes[kept], scores[kept], labels[kept])
    point = score_curve(index, match_detections(index, predictions)).at(threshold)
    matches = match_detections(index, cut)
    assert point.true_positives == matches.true_positive.sum()
    assert point.false_positives == (~matches.true_positive & ~matches.ignored).sum()


@given(st.integers(0, 10_000))
def test_no_threshold_has_a_larger_f1_than_the_best(seed: int) -> None:
    index, predictions = random_scene(seed)
    curve = score_curve(index, match_detections(index, predictions))
    best = curve.best()
    if curve.objects and len(curve.scores):
        assert best.f1 == curve.f1.max() == max(curve.at(score).f1 for score in curve.scores)


def test_a_split_without_objects_has_no_recall_but_false_alarms() -> None:
    index = make_index([[], [], []])
    matches = match_detections(index, predict([(FIRST, 0.9, 0), (FAR, 0.8, 1)], [(FIRST, 0.1, 0)], []))
    assert math.isnan(score_curve(index, matches).best().recall)
    alarms = background_alarms(index, matches, 0.5)
    assert (alarms.pictures, alarms.pictures_with_alarm, alarms.alarms) == (3, 1, 2)
    assert alarms.per_picture == 2 / 3


def test_where_no_threshold_is_better_the_given_one_is_taken() -> None:
    index = make_index([[], [(SECOND, 0)]])
    curve = score_curve(index, match_detections(index, predict([(FIRST, 0.9, 0), (FAR, 0.8, 1)], [(FAR, 0.7, 0)])))
    point = curve.best(otherwise=0.75)
    assert (point.threshold, point.true_positives, point.false_positives) == (0.75, 0, 2)


def test_pictures_with_objects_are_no_background() -> None:
    index = make_index([[(FIRST, 0)]])
    assert math.isnan(background_alarms(index, match_detections(index, predict([(FAR, 0.9, 0)])), 0.5).per_picture)


def test_confusion_counts_found_mistaken_missed_and_made_up() -> None:
    index = make_index([[(FIRST, 0), (SECOND, 1)], [(FIRST, 2)]])
    predictions = predict([(FIRST, 0.9, 0), (SECOND, 0.8, 0), (FAR, 0.7, 2)], [(FIRST, 0.1, 2)])
    matches = match_detections(index, predictions)
    assert confusion_matrix(index, predictions, matches, 0.5).tolist() == [
        [1, 0, 0, 0],  # the cat was found
        [1, 0, 0, 0],  # the dog was taken for a cat
        [0, 0, 0, 1],  # the bird was missed: its detection is below the threshold
        [0, 0, 1, 0],  # a bird was made up
    ]


@given(st.integers(0, 10_000))
def test_confusion_accounts_for_every_object_and_detection(seed: int) -> None:
    index, predictions = random_scene(seed)
    matches = match_detections(index, predictions)
    matrix = confusion_matrix(index, predictions, matches, 0.3)
    point = score_curve(index, matches).at(0.3)
    assert np.trace(matrix) == point.true_positives
    assert matrix[:-1].sum() == point.objects
    assert matrix[:, :-1].sum() == point.true_positives + point.false_positives
