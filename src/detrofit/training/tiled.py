"""Running a model over a split in tiles: for small objects in large pictures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import nn

from detrofit.data.index import DetectionIndex
from detrofit.data.tiles import TileLoader
from detrofit.evaluation.predictions import Predictions
from detrofit.tiling import WHOLE, TileDetections, Tiling, merge_tiles
from detrofit.training.devices import Devices
from detrofit.training.validate import detections_of

LOWEST_SCORE = 0.01  # below, a tile's detections are not merged; they would not change AP by what can be seen


@torch.inference_mode()
def predict_tiles(
    model: nn.Module,
    index: DetectionIndex,
    imgsz: tuple[int, int],
    devices: Devices,
    *,
    tiling: Tiling,
    batch: int,
    workers: int,
    max_detections: int,
    advance: Callable[[int], None] = lambda done: None,
) -> Predictions:
    """Detections of an eval-mode model on every picture of a split, seen in tiles of `imgsz` and merged.

    `batch` tiles are seen at once. `max_detections` are those of a tile. The other arguments are as in `predict_split`.
    """
    world = {"num_replicas": devices.world_size, "rank": devices.rank}
    loader = TileLoader(index, imgsz, tiling, batch, workers=workers, **world)
    predictions = Predictions()
    parts: dict[int, list[TileDetections]] = {}
    for images, targets in loader:
        with devices.autocast():
            output = model(devices.images(images))
        found = detections_of(output.prediction, targets, max_detections)
        for target, (boxes, scores, labels) in zip(targets, found):
            image, sure = int(target["image_index"]), scores >= LOWEST_SCORE
            height, width = target["size"]
            inside = boxes[sure].clip(0, np.array([width, height] * 2, np.float32))
            parts.setdefault(image, []).append(TileDetections(inside, scores[sure], labels[sure]))
            if target["tile"] == WHOLE:
                *tiles, whole = parts.pop(image)
                size = int(index.heights[image]), int(index.widths[image])
                predictions.add(image, *merge_tiles(loader.windows(image), tiles, whole, size))
                advance(1)
    return Predictions.merge(gather_object([predictions])) if devices.world_size > 1 else predictions
