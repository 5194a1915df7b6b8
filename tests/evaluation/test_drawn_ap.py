"""How sure a difference of AP is, over drawings of the pictures."""

from __future__ import annotations

import numpy as np
import pytest

from detrofit.evaluation.coco import coco_metrics
from detrofit.evaluation.drawn_ap import DRAWINGS, difference_interval, drawn_ap
from detrofit.evaluation.predictions import Predictions
from tests.evaluation.scenes import random_scene

pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is not installed")


def weaker(predictions: Predictions, pictures: range) -> Predictions:
    """The same, with nothing found in some pictures."""
    found = Predictions()
    for position in pictures:
        boxes, scores, labels = predictions[position]
        kept = slice(0, 0) if position % 2 else slice(None)
        found.add(position, boxes[kept], scores[kept], labels[kept])
    return found


def test_drawings_scatter_around_ap_and_the_interval_of_a_difference_is_paired() -> None:
    index, predictions = random_scene(3, num_images=40)
    drawn = drawn_ap(index, predictions)
    assert drawn.shape == (DRAWINGS,)
    assert np.nanmean(drawn) == pytest.approx(coco_metrics(index, predictions).summary()["AP"], abs=0.05)
    assert difference_interval(drawn, drawn) == (0.0, 0.0), "of a model with itself nothing is left to chance"
    low, high = difference_interval(drawn, drawn_ap(index, weaker(predictions, range(len(index)))))
    assert low <= high < 0


def test_where_no_drawing_has_an_object_nothing_is_known() -> None:
    nothing = np.full(DRAWINGS, np.nan)
    assert np.isnan(difference_interval(nothing, nothing)).all()
