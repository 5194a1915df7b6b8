"""The COCO metrics of a split, computed by faster-coco-eval under COCO's own protocol (100 detections a class)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from detrofit.data.index import DetectionIndex
from detrofit.evaluation.predictions import Predictions, boxes_to_xywh

SIZES = ("small", "medium", "large")
SIZE_BOUNDS = ((0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e5**2))  # square pixels, both ends included as in COCO
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_POINTS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = 100  # of a class in a picture

_AT_50, _AT_75 = 0, 5
_ALL_SIZES = 0


@dataclass(frozen=True)
class CocoMetrics:
    """COCO's accumulated curves, from which every COCO number is a mean; NaN where there is nothing to measure.

    Attributes:
        precision: `[10, 101, C, 4]` by IoU threshold, recall point, contiguous class and size (all, small, medium,
            large), at 100 detections.
        recall: `[10, C, 4, 3]` by IoU threshold, class, size and detections allowed (1, 10, 100).
    """

    precision: np.ndarray
    recall: np.ndarray

    def summary(self) -> dict[str, float]:
        """COCO's twelve numbers in 0..1, NaN included."""
        numbers = {
            "AP": _mean(self.precision[..., _ALL_SIZES]),
            "AP50": _mean(self.precision[_AT_50, ..., _ALL_SIZES]),
            "AP75": _mean(self.precision[_AT_75, ..., _ALL_SIZES]),
        }
        numbers |= {f"AP_{size}": _mean(self.precision[..., 1 + i]) for i, size in enumerate(SIZES)}
        numbers |= {f"AR{allowed}": _mean(self.recall[..., _ALL_SIZES, i]) for i, allowed in enumerate((1, 10, 100))}
        numbers |= {f"AR_{size}": _mean(self.recall[..., 1 + i, -1]) for i, size in enumerate(SIZES)}
        return numbers

    def of_class(self, label: int) -> dict[str, float]:
        """AP, AP50, AP75, AP by size and AR100 of one class, NaN included."""
        precision = self.precision[:, :, label]
        numbers = {
            "AP": _mean(precision[..., _ALL_SIZES]),
            "AP50": _mean(precision[_AT_50, ..., _ALL_SIZES]),
            "AP75": _mean(precision[_AT_75, ..., _ALL_SIZES]),
            "AR100": _mean(self.recall[:, label, _ALL_SIZES, -1]),
        }
        return numbers | {f"AP_{size}": _mean(precision[..., 1 + i]) for i, size in enumerate(SIZES)}

    def of_size(self, size: int) -> dict[str, float]:
        """AP, AP50, AP75 and AR100 of one size (position in `SIZES`), NaN included."""
        return {
            "AP": _mean(self.precision[..., 1 + size]),
            "AP50": _mean(self.precision[_AT_50, ..., 1 + size]),
            "AP75": _mean(self.precision[_AT_75, ..., 1 + size]),
            "AR100": _mean(self.recall[..., 1 + size, -1]),
        }


def coco_metrics(index: DetectionIndex, predictions: Predictions) -> CocoMetrics:
    """Score `predictions` against every picture of `index`, equal to pycocotools; crowd objects are neutral."""
    from faster_coco_eval import COCO, COCOeval_faster

    truth = COCO(_truth(index))
    found = COCO(_found(index, predictions))
    evaluator = COCOeval_faster(truth, found, iouType="bbox", print_function=_say_nothing)
    evaluator.evaluate()
    evaluator.accumulate()
    # The evaluator orders classes by original id.
    contiguous = np.argsort(np.argsort(index.category_ids))
    precision = np.asarray(evaluator.eval["precision"], np.float64)[..., -1][:, :, contiguous]
    recall = np.asarray(evaluator.eval["recall"], np.float64)[:, contiguous]
    return CocoMetrics(_absent_as_nan(precision), _absent_as_nan(recall))


def size_counts(index: DetectionIndex) -> np.ndarray:
    """Objects by class and size, int64 `[C, 3]`, crowd left out; one on a bound counts twice, as it does in COCO."""
    counts = np.zeros((len(index.class_names), len(SIZES)), np.int64)
    for size, (low, high) in enumerate(SIZE_BOUNDS):
        chosen = ~index.crowd & (index.areas >= low) & (index.areas <= high)
        counts[:, size] = np.bincount(index.labels[chosen], minlength=len(counts))
    return counts


def _truth(index: DetectionIndex) -> dict[str, Any]:
    image_of_box = np.repeat(index.image_ids, np.diff(index.box_offsets))
    category_of_box = np.asarray(index.category_ids, np.int64)[index.labels]
    columns = zip(
        image_of_box.tolist(),
        category_of_box.tolist(),
        boxes_to_xywh(index.boxes_xyxy).tolist(),
        index.areas.tolist(),
        index.crowd.tolist(),
        strict=True,
    )
    annotations = [
        # From 1 on: the evaluator's 0 means "unmatched".
        {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": area, "iscrowd": int(crowd)}
        for number, (image, category, box, area, crowd) in enumerate(columns, start=1)
    ]
    return _dataset(index, annotations)


def _found(index: DetectionIndex, predictions: Predictions) -> dict[str, Any]:
    records = predictions.to_coco(index)
    for number, record in enumerate(records, start=1):
        width, height = record["bbox"][2:]
        record |= {"id": number, "area": width * height, "iscrowd": 0}
    return _dataset(index, records)


def _dataset(index: DetectionIndex, annotations: list[dict[str, Any]]) -> dict[str, Any]:
    sizes = zip(index.image_ids.tolist(), index.widths.tolist(), index.heights.tolist(), strict=True)
    categories = zip(index.category_ids, index.class_names, strict=True)
    return {
        "images": [{"id": image, "width": width, "height": height} for image, width, height in sizes],
        "categories": [{"id": int(category), "name": name} for category, name in categories],
        "annotations": annotations,
    }


def _absent_as_nan(values: np.ndarray) -> np.ndarray:
    return np.where(values > -1, values, np.nan)


def _mean(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


def _say_nothing(*_: object) -> None:
    return None
