"""Small models whose outputs do not tie: every weight is drawn from its own name, wide enough to tell things apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Generator, Tensor, nn

from detrofit.config.models import build
from detrofit.data.demo_scenes import draw_scene
from detrofit.model.detector import RTDETR
from detrofit.model.postprocess import postprocess
from detrofit.randomness import derive_seed
from detrofit.runtime.preprocess import to_images
from detrofit.weights.model_file import ModelInfo, save_model

Module = TypeVar("Module", bound=nn.Module)

CLASSES = ("cat", "dog", "owl")
SIZE = (64, 96)
FEW: Mapping[str, Any] = {"num_queries": 40, "max_detections": 30, "decoder_layers": 2}


def draw_model(
    name: str, retrofit: Mapping[str, Any] | None = None, num_classes: int = len(CLASSES), **settings: Any
) -> RTDETR:
    """A model in eval mode with weights, biases and statistics that no initial value has."""
    return drawn(build(name, retrofit, num_classes=num_classes, settings={**FEW, **settings}))


def drawn(model: Module) -> Module:
    """`model` itself, in eval mode, with such numbers."""
    model.load_state_dict({key: _draw(key, value) for key, value in model.state_dict().items()})
    return model.eval()


@torch.no_grad()
def detections_of(model: RTDETR, batch: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """What torch finds in each picture of `batch`, uint8 `[B,H,W,3]`: boxes in pixels, scores, labels."""
    size = torch.tensor([batch.shape[1:3]], dtype=torch.float32)
    found = postprocess(model(torch.from_numpy(to_images(batch))).prediction, size, model.frame.max_detections)
    boxes, scores, labels = (each.numpy() for each in (found.boxes, found.scores, found.labels))
    return list(zip(boxes, scores, labels))


def _draw(name: str, like: Tensor) -> Tensor:
    if not like.is_floating_point():
        return like
    noise = torch.rand(like.shape, generator=Generator().manual_seed(derive_seed(0, name))) * 2 - 1
    if name.endswith("running_var") or (like.ndim == 1 and name.endswith("weight")):
        return 1 + noise / 4
    if like.ndim <= 1:
        return noise / 5
    return noise * math.sqrt((4 if like.ndim == 4 else 6) / like[0].numel())


def draw_pictures(count: int) -> list[np.ndarray]:
    """Small scenes, the same at every call."""
    return [draw_scene(np.random.default_rng(number), 80, 100).picture for number in range(count)]


def model_info(name: str, size: tuple[int, int] = SIZE, classes: tuple[str, ...] = CLASSES) -> ModelInfo:
    return ModelInfo(name, classes, tuple(range(1, 4 * len(classes), 4)), size, threshold=0.3)


def write_model(folder: Path, classes: tuple[str, ...] = CLASSES) -> Path:
    """The model file of a drawn nano model."""
    file = folder / "model.safetensors"
    save_model(file, draw_model("rtdetr-n", num_classes=len(classes)), model_info("rtdetr-n", classes=classes))
    return file
