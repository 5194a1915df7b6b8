"""COCO's numbers of a model at many points, the backbone and the encoder run once for all points of a size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from detrofit.data.index import DetectionIndex
from detrofit.data.loader import EvaluationLoader
from detrofit.deployment.trade.points import Point
from detrofit.evaluation.coco import coco_metrics
from detrofit.evaluation.predictions import Predictions
from detrofit.model.decoder import Decoder
from detrofit.model.detector import RTDETR
from detrofit.training.devices import Devices
from detrofit.training.validate import add_detections


def score_points(
    model: RTDETR,
    index: DetectionIndex,
    points: Sequence[Point],
    devices: Devices,
    *,
    batch: int,
    workers: int,
    advance: Callable[[int], None] = lambda done: None,
) -> dict[Point, dict[str, float]]:
    """COCO's summary of an eval-mode model at each point on every picture of a split.

    `advance` is told how many pictures are done; each is done once for every size.
    """
    scores: dict[Point, dict[str, float]] = {}
    for size in dict.fromkeys(point.size for point in points):
        chosen = [point for point in points if point.size == size]
        loader = EvaluationLoader(index, size, batch, workers=workers)
        for point, predictions in zip(chosen, _predict(model, loader, chosen, devices, advance)):
            scores[point] = coco_metrics(index, predictions).summary()
    return scores


@torch.inference_mode()
def _predict(
    model: RTDETR,
    loader: EvaluationLoader,
    points: Sequence[Point],
    devices: Devices,
    advance: Callable[[int], None],
) -> list[Predictions]:
    """The detections of each point on all pictures of the loader."""
    found = [Predictions() for _ in points]
    trained = model.decoder.query_selection.num_queries, model.decoder.eval_layers
    for images, targets in loader:
        with devices.autocast():
            maps = model.maps(devices.images(images))
        for point, predictions in zip(points, found):
            _turn(model.decoder, point.num_queries, point.decoder_layers)
            with devices.autocast():
                output = model.decoder(maps)
            add_detections(predictions, output.prediction, targets, model.frame.max_detections)
        advance(len(targets))
    _turn(model.decoder, *trained)
    return found


def _turn(decoder: Decoder, num_queries: int, layers: int) -> None:
    """Make the decoder select so many queries and stop after so many layers."""
    decoder.query_selection.num_queries, decoder.eval_layers = num_queries, layers
