"""Scenes with one known error each, and what each must be called and cost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detrofit.evaluation.coco import coco_metrics
from detrofit.evaluation.error_impact import analyse_errors
from detrofit.evaluation.errors import KINDS, RIGHT, classify_errors
from detrofit.evaluation.matching import match_detections
from detrofit.evaluation.predictions import Predictions
from tests.evaluation.scenes import make_index, random_scene

CAT, DOG = 0, 1
BOX = (100, 100, 200, 200)
FAR = (400, 300, 500, 400)
HALF_OFF = (160, 100, 260, 200)  # IoU 0.25 with BOX


def predicted(*images) -> Predictions:
    found = Predictions()
    for number, image in enumerate(images):
        boxes, scores, labels = zip(*image) if image else ((), (), ())
        found.add(number, np.array(boxes, float).reshape(-1, 4), np.array(scores), np.array(labels, int))
    return found


SCENES = {
    "duplicate": [(BOX, 0.9, CAT), (BOX, 0.8, CAT)],
    "class": [(BOX, 0.9, DOG)],
    "place": [(HALF_OFF, 0.9, CAT)],
    "both": [(HALF_OFF, 0.9, DOG)],
    "background": [(BOX, 0.9, CAT), (FAR, 0.95, CAT)],
    "missed": [],
}


@pytest.mark.parametrize("kind", SCENES)
def test_each_error_is_called_by_its_name_and_costs_alone(kind):
    index = make_index([[(BOX, CAT)], [(FAR, DOG)]])
    predictions = predicted(SCENES[kind], [(FAR, 0.9, DOG)])
    analysis = analyse_errors(index, predictions, threshold=0.5)
    counts = {row.kind: row.at_threshold for row in analysis.rows}
    # An object that is only mistaken for another class, or found half off, is not missed as well.
    also_missed = kind == "both"
    assert counts == {**dict.fromkeys((*KINDS, "missed"), 0), **({"missed": 1} if also_missed else {}), kind: 1}
    lost = {row.kind: row.ap_lost for row in analysis.rows}
    if kind in ("class", "place", "missed"):
        assert lost[kind] == pytest.approx(1 - analysis.ap50), "putting the only error right gives all"
    if kind == "duplicate":
        assert lost[kind] == 0, "a duplicate below all that is found costs nothing"
    if kind == "background":
        assert lost[kind] == pytest.approx(0.25), "precision of cats was a half"
    assert all(value == 0 for other, value in lost.items() if other not in (kind, "missed"))


@pytest.mark.parametrize(
    ("box", "kind", "target"), [((145, 100, 245, 200), "place", 0), ((125, 100, 225, 200), "class", 1)]
)
def test_of_several_kinds_that_of_the_published_code_counts(box, kind, target):
    """The second box also lies on an object of another class, or is the second one on its own."""
    index = make_index([[(BOX, CAT), ((120, 100, 220, 200), DOG)]])
    matches = match_detections(index, found := predicted([(BOX, 0.9, CAT), (box, 0.8, CAT)]))
    errors = classify_errors(index, found, matches)
    assert errors.kind.tolist() == [RIGHT, KINDS.index(kind)] and errors.target[1] == target


def test_what_finds_a_crowd_is_no_error():
    index = make_index([[(BOX, CAT), (FAR, CAT)]], crowd={1})
    analysis = analyse_errors(index, predicted([(BOX, 0.9, CAT), (FAR, 0.8, CAT), (FAR, 0.7, CAT)]), 0.5)
    assert all(row.count == 0 and row.ap_lost == 0 for row in analysis.rows) and analysis.ap50 == pytest.approx(1)


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_ap_as_it_is_is_cocos_and_every_detection_has_one_kind(seed):
    index, predictions = random_scene(seed)
    analysis = analyse_errors(index, predictions, threshold=0.3)
    expected = coco_metrics(index, predictions).summary()["AP50"]
    assert analysis.ap50 == pytest.approx(expected, nan_ok=True, abs=1e-9)
    detections = (analysis.errors.kind >= 0).sum()
    assert sum(row.count for row in analysis.rows if row.kind != "missed") == detections
    assert all(row.at_threshold <= row.count for row in analysis.rows if row.kind != "missed")


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_errors_that_go_away_cost_what_cocos_ap_gains_without_them(seed):
    index, predictions = random_scene(seed)
    analysis = analyse_errors(index, predictions, threshold=0.3)
    matches = analysis.errors.matches
    for row in (row for row in analysis.rows if row.kind in ("duplicate", "both", "background")):
        faulty = analysis.errors.kind == KINDS.index(row.kind)
        others = Predictions()
        for image in range(len(index)):
            gone = matches.position[faulty & (matches.image_index == image)]
            others.add(image, *(np.delete(each, gone, axis=0) for each in predictions[image]))
        expected = coco_metrics(index, others).summary()["AP50"]
        assert analysis.ap50 + row.ap_lost == pytest.approx(expected, nan_ok=True, abs=1e-9), row.kind


def test_all_errors_put_right_leave_nothing_to_gain():
    index = make_index([[(BOX, CAT), (FAR, DOG)]])
    analysis = analyse_errors(index, predicted([(BOX, 0.9, CAT), (FAR, 0.7, DOG)]), 0.5)
    assert analysis.ap50 == pytest.approx(1) and not any(row.ap_lost or row.count for row in analysis.rows)
