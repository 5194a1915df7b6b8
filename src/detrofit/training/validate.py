"""Running a model over a split and scoring it, on one process or several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import nn

from detrofit.data.index import DetectionIndex
from detrofit.data.loader import EvaluationLoader
from detrofit.errors import DetrofitError
from detrofit.evaluation.evaluate import Evaluation, evaluate
from detrofit.evaluation.predictions import Predictions
from detrofit.model.output import Prediction
from detrofit.model.postprocess import postprocess
from detrofit.training.devices import Devices


@torch.inference_mode()
def predict_split(
    model: nn.Module,
    index: DetectionIndex,
    imgsz: tuple[int, int],
    devices: Devices,
    *,
    batch: int,
    workers: int,
    max_detections: int,
    advance: Callable[[int], None] = lambda done: None,
) -> Predictions:
    """Detections of an eval-mode model on every picture of a split, each once over all processes.

    `advance` is told how many pictures of this process are done. Raises DetrofitError where a detection is not finite.
    """
    loader = EvaluationLoader(index, imgsz, batch, workers=workers, num_replicas=devices.world_size, rank=devices.rank)
    predictions = Predictions()
    for images, targets in loader:
        with devices.autocast():
            output = model(devices.images(images))
        add_detections(predictions, output.prediction, targets, max_detections)
        advance(len(targets))
    return Predictions.merge(gather_object([predictions])) if devices.world_size > 1 else predictions


def add_detections(
    predictions: Predictions, prediction: Prediction, targets: Sequence[Mapping[str, Any]], max_detections: int
) -> None:
    """Record what the model says about the pictures of a batch; DetrofitError where a detection is not finite."""
    for target, detections in zip(targets, detections_of(prediction, targets, max_detections)):
        predictions.add(int(target["image_index"]), *detections)


def detections_of(
    prediction: Prediction, targets: Sequence[Mapping[str, Any]], max_detections: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each picture of a batch boxes xyxy `[K,4]` in its pixels, scores and labels `[K]`, best first.

    `targets` tell the `size` (height, width) of each. Raises DetrofitError where a detection is not finite.
    """
    found = postprocess(prediction, torch.tensor([target["size"] for target in targets]), max_detections)
    if not (found.scores.isfinite().all() and found.boxes.isfinite().all()):
        raise DetrofitError(
            "the detections are not finite numbers: the training has diverged; lower --lr, or set train.precision=fp32"
        )
    boxes, scores, labels = (tensor.cpu().numpy() for tensor in (found.boxes, found.scores, found.labels))
    return zip(boxes, scores, labels)


def validate(
    model: nn.Module, index: DetectionIndex, imgsz: tuple[int, int], devices: Devices, **options: Any
) -> tuple[Evaluation, Predictions]:
    """The score of an eval-mode model on a split, and the predictions that it comes from; see `predict_split`."""
    predictions = predict_split(model, index, imgsz, devices, **options)
    return evaluate(index, predictions), predictions
