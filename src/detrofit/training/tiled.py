"""Running a model over a split in tiles: for small objects in large pictures."""

from __future__ import annotations

from collections.abc import Callable

import torch
from accelerate.utils import gather_object
from torch import nn

from detrofit.data.index import DetectionIndex
from detrofit.data.tiles import TileLoader
from detrofit.evaluation.predictions import Predictions
from detrofit.model.postprocess import postprocess
from detrofit.tiling import TileDetections, Tiling, merge_tiles
from detrofit.training.devices import Devices

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

    At most `batch` tiles are in memory at once, beside the decoded picture. `max_detections` are those of a tile. The
    other arguments are as in `predict_split`.
    """
    world = {"num_replicas": devices.world_size, "rank": devices.rank}
    loader = TileLoader(index, imgsz, tiling, batch, workers=workers, **world)
    predictions = Predictions()
    parts: dict[int, list[TileDetections]] = {}
    for images, targets in loader:
        with devices.autocast():
            output = model(devices.images(images))
        found = postprocess(output.prediction, torch.tensor([target["size"] for target in targets]), max_detections)
        arrays = (tensor.float().cpu().numpy() for tensor in (found.boxes, found.scores, found.labels))
        for target, boxes, scores, labels in zip(targets, *arrays):
            image, sure = int(target["image_index"]), scores >= LOWEST_SCORE
            parts.setdefault(image, []).append(TileDetections(boxes[sure], scores[sure], labels[sure]))
            windows = loader.windows(image)
            if target["tile"] == len(windows):
                *tiles, whole = parts.pop(image)
                size = int(index.heights[image]), int(index.widths[image])
                predictions.add(image, *merge_tiles(windows, tiles, whole, size))
                advance(1)
    return Predictions.merge(gather_object([predictions])) if devices.world_size > 1 else predictions
