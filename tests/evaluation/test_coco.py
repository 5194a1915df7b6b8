from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detrofit.data.index import DetectionIndex
from detrofit.evaluation.coco import CocoMetrics, coco_metrics, size_counts
from detrofit.evaluation.predictions import Predictions
from tests.evaluation.scenes import make_index, random_scene

pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is not installed")

NAMES = (
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
    "AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large",
)  # fmt: skip


def by_pycocotools(index: DetectionIndex, predictions: Predictions, class_name: str | None = None) -> list[float]:
    """pycocotools' twelve numbers from dictionaries written here, not by the code under test."""
    coco_module = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco_module.COCO()
        truth.dataset = truth_of(index)
        truth.createIndex()
        evaluator = COCOeval(truth, truth.loadRes(results_of(index, predictions)), "bbox")
        if class_name is not None:
            evaluator.params.catIds = [index.category_ids[index.class_names.index(class_name)]]
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats.tolist()


def truth_of(index: DetectionIndex) -> dict:
    annotations = []
    for position, image_id in enumerate(index.image_ids.tolist()):
        for box in range(*index.box_offsets[position : position + 2].tolist()):
            x1, y1, x2, y2 = index.boxes_xyxy[box].astype(np.float64).tolist()
            annotations.append(
                {
                    "id": box + 1,
                    "image_id": image_id,
                    "category_id": index.category_ids[index.labels[box]],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": float(index.areas[box]),
                    "iscrowd": int(index.crowd[box]),
                }
            )
    categories = [
        {"id": number, "name": name} for number, name in zip(index.category_ids, index.class_names, strict=True)
    ]
    return {
        "images": [{"id": i} for i in index.image_ids.tolist()],
        "categories": categories,
        "annotations": annotations,
    }


def results_of(index: DetectionIndex, predictions: Predictions) -> list[dict]:
    results = []
    for position, image_id in enumerate(index.image_ids.tolist()):
        for (x1, y1, x2, y2), score, label in zip(*map(np.ndarray.tolist, predictions[position]), strict=True):
            box = [x1, y1, x2 - x1, y2 - y1]
            results.append(
                {"image_id": image_id, "category_id": index.category_ids[label], "bbox": box, "score": score}
            )
    return results


def as_in_pycocotools(metrics: CocoMetrics) -> list[float]:
    numbers = metrics.summary()
    return [-1.0 if np.isnan(numbers[name]) else numbers[name] for name in NAMES]


@given(st.integers(0, 10_000))
@settings(max_examples=40)
def test_equals_pycocotools_on_random_scenes(seed: int) -> None:
    index, predictions = random_scene(seed)
    if not any(len(predictions[position][0]) for position in range(len(index))):
        return  # pycocotools cannot read empty results; see the test below
    np.testing.assert_allclose(
        as_in_pycocotools(coco_metrics(index, predictions)), by_pycocotools(index, predictions), atol=1e-6
    )


def test_equals_pycocotools_for_one_class() -> None:
    index, predictions = random_scene(3, num_images=20)
    metrics = coco_metrics(index, predictions)
    for label, name in enumerate(index.class_names):
        reference = by_pycocotools(index, predictions, name)
        numbers = metrics.of_class(label)
        expected = dict(zip(NAMES, reference, strict=True))
        for key in ("AP", "AP50", "AP75", "AR100", "AP_small", "AP_medium", "AP_large"):
            assert numbers[key] == pytest.approx(expected[key], abs=1e-6), (name, key)


def test_only_the_hundred_best_detections_of_a_class_count() -> None:
    index = make_index([[([10, 10, 50, 50], 0)]])
    predictions = Predictions()
    boxes = np.array([[300, 300, 340, 340]] * 100 + [[10, 10, 50, 50]], np.float32)
    predictions.add(0, boxes, np.linspace(0.9, 0.1, 101), np.zeros(101, np.int64))
    assert coco_metrics(index, predictions).summary()["AP"] == 0.0
    assert by_pycocotools(index, predictions)[0] == 0.0


def test_no_detections_give_zero_and_no_objects_give_nothing() -> None:
    index = make_index([[([10, 10, 50, 50], 0)], []])
    predictions = Predictions()
    for position in range(2):
        predictions.add(position, np.zeros((0, 4)), np.zeros(0), np.zeros(0))
    numbers = coco_metrics(index, predictions).summary()
    assert numbers["AP"] == 0.0 and numbers["AP_medium"] == 0.0
    assert np.isnan(numbers["AP_small"]), "there are no small objects"


def test_sizes_are_counted_by_annotated_area_without_crowd() -> None:
    small, medium, large = [0, 0, 10, 10], [0, 0, 50, 50], [0, 0, 100, 100]
    index = make_index([[(small, 0), (medium, 0), (large, 2), (large, 2)]], crowd={3})
    assert size_counts(index).tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
