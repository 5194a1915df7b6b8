from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detrofit.data.index import DetectionIndex
from detrofit.evaluation.coco import coco_metrics
from detrofit.evaluation.predictions import Predictions
from detrofit.evaluation.resampled_ap import bootstrap_weights, resampled_ap
from detrofit.evaluation.size_matching import match_by_size
from tests.evaluation.scenes import make_index, random_scene

pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is not installed")


def duplicated(
    index: DetectionIndex, predictions: Predictions, counts: list[int]
) -> tuple[DetectionIndex, Predictions]:
    """The data set that holds picture i `counts[i]` times, copies side by side in the order of picture ids."""
    order = np.argsort(index.image_ids).tolist()
    positions = [position for position in order for _ in range(counts[position])]
    boxes = [range(*index.box_offsets[position : position + 2].tolist()) for position in positions]
    chosen = [box for each in boxes for box in each]
    images = [[(index.boxes_xyxy[box].tolist(), int(index.labels[box])) for box in each] for each in boxes]
    crowd = np.flatnonzero(index.crowd[chosen]).tolist()
    copy = make_index(images, index.class_names, index.category_ids, crowd)
    ascending = DetectionIndex(**{**vars(copy), "image_ids": np.arange(1, len(positions) + 1)})
    copied = Predictions()
    for number, position in enumerate(positions):
        copied.add(number, *predictions[position])
    return ascending, copied


def without_ties(predictions: Predictions, num_images: int) -> Predictions:
    """Copies of two tied detections would alternate in COCO's order, where resampling keeps each with its copies."""
    distinct, number = Predictions(), 0
    for position in range(num_images):
        boxes, scores, labels = predictions[position]
        distinct.add(position, boxes, scores * 0.9 + 1e-5 * (1 + np.arange(number, number + len(scores))), labels)
        number += len(scores)
    return distinct


def assert_equals_coco(
    numbers: dict[str, np.ndarray], row: int, index: DetectionIndex, predictions: Predictions
) -> None:
    metrics = coco_metrics(index, predictions)
    expected = {name: value for name, value in metrics.summary().items() if name in numbers}
    expected |= {f"AP/{name}": metrics.of_class(label)["AP"] for label, name in enumerate(index.class_names)}
    assert set(expected) == set(numbers)
    for name, value in expected.items():
        np.testing.assert_allclose(numbers[name][row], value, rtol=0, atol=1e-12, err_msg=name)


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_unit_weights_give_cocos_numbers(seed: int) -> None:
    index, predictions = random_scene(seed)
    matches = match_by_size(index, predictions)
    numbers = resampled_ap(matches, np.ones((1, len(index)), int)).summary(index.class_names)
    assert_equals_coco(numbers, 0, index, predictions)


@given(st.integers(0, 10_000), st.lists(st.integers(0, 4), min_size=8, max_size=8))
@settings(max_examples=15, deadline=None)
def test_integer_weights_equal_a_data_set_with_copies(seed: int, counts: list[int]) -> None:
    index, tied = random_scene(seed)
    if not any(counts):
        return
    predictions = without_ties(tied, len(index))
    numbers = resampled_ap(match_by_size(index, predictions), np.array([counts])).summary(index.class_names)
    assert_equals_coco(numbers, 0, *duplicated(index, predictions, counts))


def test_many_resamples_in_chunks_and_threads_equal_each_alone() -> None:
    index, predictions = random_scene(5, num_images=20)
    matches = match_by_size(index, predictions)
    weights = bootstrap_weights(len(index), 150, seed=1)
    together = resampled_ap(matches, weights, threads=2).values
    alone = np.concatenate([resampled_ap(matches, row[None]).values for row in weights])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-12)
    assert (weights.sum(axis=1) == 20).all()


def test_recall_on_a_recall_point_counts_as_in_coco() -> None:
    # Of 100 objects 57 are found: COCO's recall point 0.57 is the float above 57 / 100, so that it is not reached.
    boxes = [[10.0 * i, 0, 10.0 * i + 8, 8] for i in range(50)]
    index = make_index([[(box, 0) for box in boxes]] * 2, class_names=("cat",), category_ids=(1,))
    predictions = Predictions()
    predictions.add(0, np.array(boxes), np.linspace(0.9, 0.8, 50), np.zeros(50, int))
    predictions.add(1, np.array(boxes[:7]), np.linspace(0.7, 0.6, 7), np.zeros(7, int))
    numbers = resampled_ap(match_by_size(index, predictions), np.ones((1, 2), int)).summary(["cat"])
    assert_equals_coco(numbers, 0, index, predictions)
