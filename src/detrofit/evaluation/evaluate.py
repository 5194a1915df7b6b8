"""All the numbers of one evaluation, to read, to show and to keep."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detrofit.data.index import DetectionIndex
from detrofit.errors import DetrofitError
from detrofit.evaluation.coco import SIZE_BOUNDS, SIZES, CocoMetrics, coco_metrics, size_counts
from detrofit.evaluation.confusion import confusion_matrix
from detrofit.evaluation.matching import match_detections
from detrofit.evaluation.operating_point import (
    BackgroundAlarms,
    OperatingPoint,
    ScoreCurve,
    background_alarms,
    score_curve,
)
from detrofit.evaluation.predictions import Predictions
from detrofit.files import write_file

if TYPE_CHECKING:
    from rich.console import Console

Row = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """How predictions agree with a split.

    Attributes:
        summary: name to number, all finite; a number for which the split has nothing to measure (AP_small without
            small objects) is absent. AP and AR in 0..1 by COCO's protocol; precision, recall, f1 and threshold at
            the score threshold of the largest F1 over all objects, IoU 0.5 (see `ScoreCurve.best`); counts of images,
            background images and objects; false alarms for each background image.
        per_class: a row a class in order of contiguous id: name, category_id, images, objects (also by size), COCO's
            numbers, precision, recall and f1 at the common threshold, and the class's own best threshold and F1.
        per_size: a row a size: its bounds in pixels, objects and COCO's numbers.
        operating_point: counts at the best threshold, all classes together.
        background: false alarms at that threshold on images without objects.
        confusion: int64 `[C+1, C+1]` at that threshold, see `confusion_matrix`.
        coco: COCO's precision and recall arrays.
        curve: counts against the score threshold, all classes together.
        class_curves: the same for each class.
    """

    split: str
    class_names: tuple[str, ...]
    summary: dict[str, float]
    per_class: list[Row]
    per_size: list[Row]
    operating_point: OperatingPoint
    background: BackgroundAlarms
    confusion: np.ndarray = field(repr=False)
    coco: CocoMetrics = field(repr=False)
    curve: ScoreCurve = field(repr=False)
    class_curves: list[ScoreCurve] = field(repr=False)

    def render(self, console: Console) -> None:
        """Print the summary and the tables by class and by size."""
        from detrofit.evaluation.tables import print_evaluation

        print_evaluation(self, console)

    def to_dict(self) -> Row:
        """Summary, rows and confusion matrix as plain JSON values; null where there is nothing to measure."""
        return {
            "split": self.split,
            "summary": self.summary,
            "per_class": [_json_row(row) for row in self.per_class],
            "per_size": [_json_row(row) for row in self.per_size],
            "confusion": {"classes": [*self.class_names, "background"], "counts": self.confusion.tolist()},
        }

    def save(self, folder: str | Path) -> None:
        """Write evaluation.json, per_class.csv, per_size.csv, precision_recall.png, f1_threshold.png and
        confusion_matrix.png to `folder`."""
        from detrofit.evaluation.plots import plot_confusion, plot_f1_threshold, plot_precision_recall

        folder = Path(folder)
        write_file(folder / "evaluation.json", json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n")
        write_file(folder / "per_class.csv", _as_csv(self.per_class))
        write_file(folder / "per_size.csv", _as_csv(self.per_size))
        plot_precision_recall(self, folder / "precision_recall.png")
        plot_f1_threshold(self, folder / "f1_threshold.png")
        plot_confusion(self, folder / "confusion_matrix.png")


def evaluate(index: DetectionIndex, predictions: Predictions, threshold: float = 0.5) -> Evaluation:
    """Score `predictions` on every picture of `index`.

    `threshold` is the score of the operating point where the split decides on none, as one without objects.

    Raises `DetrofitError` if a picture has no prediction (one without detections is recorded as empty) or if a
    prediction is for a picture or class that the index does not have.
    """
    _check_coverage(index, predictions)
    coco = coco_metrics(index, predictions)
    matches = match_detections(index, predictions)
    curve = score_curve(index, matches)
    best = curve.best(threshold)
    class_curves = [score_curve(index, matches, label) for label in range(len(index.class_names))]
    background = background_alarms(index, matches, best.threshold)
    return Evaluation(
        split=index.split,
        class_names=tuple(index.class_names),
        summary=_summary(index, coco, best, background),
        per_class=_class_rows(index, coco, class_curves, best.threshold),
        per_size=_size_rows(index, coco),
        operating_point=best,
        background=background,
        confusion=confusion_matrix(index, predictions, matches, best.threshold),
        coco=coco,
        curve=curve,
        class_curves=class_curves,
    )


def _check_coverage(index: DetectionIndex, predictions: Predictions) -> None:
    covered = sum(image_index in predictions for image_index in range(len(index)))
    if covered < len(index):
        raise DetrofitError(
            f"only {covered} of the {len(index)} pictures of '{index.split}' were predicted; predict all of them"
        )
    if len(predictions) > len(index):
        raise DetrofitError(
            f"{len(predictions)} pictures were predicted, but '{index.split}' has {len(index)}; give the same split"
        )
    for image_index in range(len(index)):
        boxes, scores, _ = predictions[image_index]
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise DetrofitError(
                f"a detection in {index.name(image_index)} is not finite: the model has diverged, or its numbers "
                "are too large for the precision that it ran in"
            )
    highest = max((int(predictions[i][2].max(initial=0)) for i in range(len(index))), default=0)
    if highest >= max(len(index.class_names), 1):
        raise DetrofitError(
            f"a prediction is of class {highest}, but the data has {len(index.class_names)} classes;"
            " evaluate on data with the model's classes"
        )


def _summary(
    index: DetectionIndex, coco: CocoMetrics, best: OperatingPoint, background: BackgroundAlarms
) -> dict[str, float]:
    numbers = coco.summary() | {
        "precision": best.precision,
        "recall": best.recall,
        "f1": best.f1,
        "threshold": best.threshold,
        "images": len(index),
        "background_images": background.pictures,
        "objects": best.objects,
        "false_alarms_per_background_image": background.per_picture,
    }
    return {name: number for name, number in numbers.items() if math.isfinite(number)}


def _class_rows(index: DetectionIndex, coco: CocoMetrics, curves: list[ScoreCurve], threshold: float) -> list[Row]:
    sizes = size_counts(index)
    image_of_box = np.repeat(np.arange(len(index)), np.diff(index.box_offsets))
    rows = []
    for label, (name, curve) in enumerate(zip(index.class_names, curves, strict=True)):
        common, own = curve.at(threshold), curve.best()
        images = len(np.unique(image_of_box[(index.labels == label) & ~index.crowd]))
        row: Row = {"class": name, "category_id": int(index.category_ids[label]), "images": images}
        row["objects"] = curve.objects
        row |= {f"objects_{size}": int(count) for size, count in zip(SIZES, sizes[label], strict=True)}
        row |= coco.of_class(label)
        row |= {"precision": common.precision, "recall": common.recall, "f1": common.f1}
        row |= {"best_f1": own.f1, "best_threshold": own.threshold}
        rows.append(row)
    return rows


def _size_rows(index: DetectionIndex, coco: CocoMetrics) -> list[Row]:
    counts = size_counts(index).sum(axis=0)
    return [
        {"size": size, "side_from": low**0.5, "side_to": high**0.5, "objects": int(counts[i])} | coco.of_size(i)
        for i, (size, (low, high)) in enumerate(zip(SIZES, SIZE_BOUNDS, strict=True))
    ]


def _json_row(row: Row) -> Row:
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}


def _as_csv(rows: list[Row]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in _json_row(row).items()} for row in rows)
    return text.getvalue()
