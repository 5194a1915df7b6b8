"""Whether a part works inside a whole model: checks beside those of `parts.checks`, which knows no models."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detrofit.config.models import build
from detrofit.model.detector import RTDETR
from detrofit.parts.check import Check, require
from detrofit.parts.slots import Slot
from detrofit.parts.trials import Place
from detrofit.weights.model_file import ModelInfo, load_model, save_model

MODEL = "rtdetr-n"
IMAGE_SIZE = (64, 64)
TARGETS = [
    {"labels": torch.tensor([0, 2]), "boxes": torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.3, 0.3, 0.1, 0.4]])},
    {"labels": torch.tensor([1]), "boxes": torch.tensor([[0.6, 0.5, 0.6, 0.3]])},
]
_INFO = ModelInfo(MODEL, ("a", "b", "c"), (1, 2, 3), IMAGE_SIZE)
_FEW_QUERIES = {"num_queries": 20, "max_detections": 20, "num_denoising": 10}
_STEPS = 10
_LEARNING_RATE = 2e-3  # high, so that the fall is larger than what rematching of queries adds


def address_in_model(slot: Slot) -> str:
    """The address of the slot in a small model: of several stages the last."""
    return slot.address({"stage": 4})


def small_model(retrofit: Mapping[str, Any], **settings: Any) -> RTDETR:
    """The nano model with a retrofit, and with few queries unless `settings` of the frame say otherwise."""
    return build(MODEL, retrofit, num_classes=len(_INFO.class_names), settings={**_FEW_QUERIES, **settings})


def model_with(place: Place, **settings: Any) -> RTDETR:
    """The small model with a part in its place."""
    return small_model({address_in_model(place.slot): {"part": place.part.name, **place.options}}, **settings)


def fixed_pictures() -> Tensor:
    """The batch that the targets belong to, the same every time."""
    return torch.rand(len(TARGETS), 3, *IMAGE_SIZE, generator=torch.Generator().manual_seed(0))


def fixed_loss(model: RTDETR) -> Tensor:
    """The loss on the fixed batch, with the same denoising queries every time."""
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(TARGETS))]
    output = model(fixed_pictures(), TARGETS, generators=generators)
    return torch.stack(list(model.criterion(output, TARGETS, IMAGE_SIZE).values())).sum()


def learns(place: Place) -> None:
    """Ten updates on a fixed batch lower the loss, and every parameter of the model has its share in it."""
    model, losses = _trained(place, _STEPS)
    require(all(map(math.isfinite, losses)), f"the loss is not finite: {losses}")
    idle = [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]
    require(not idle, f"the loss does not depend on {', '.join(idle[:3])}, which distributed training refuses")
    falls = sum(losses[-3:]) < sum(losses[:3])
    require(falls, f"{_STEPS} updates on one batch do not lower the loss: {', '.join(f'{x:.2f}' for x in losses)}")


def returns_from_its_file(place: Place) -> None:
    """After an update, the model that comes out of its file gives the outputs of the one that went in."""
    model, _ = _trained(place, 1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        save_model(file, model, _INFO)
        loaded = load_model(file)
    with torch.no_grad():
        expected, actual = (each.eval()(fixed_pictures()).prediction for each in (model, loaded))
    same = torch.allclose(actual.boxes, expected.boxes) and torch.allclose(actual.logits, expected.logits, atol=1e-5)
    require(same, "saved and loaded, the model gives other outputs; what it keeps must be parameters or buffers")


def _trained(place: Place, steps: int) -> tuple[RTDETR, list[float]]:
    """The small model after so many updates, and the loss before each."""
    losses = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # for the dropout of some parts
        model = model_with(place).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=_LEARNING_RATE)
        for _ in range(steps):
            loss = fixed_loss(model)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            losses.append(loss.item())
    return model, losses


IN_MODEL = (
    Check(f"learns in {MODEL}", lambda slot: True, learns),
    Check("returns from its file", lambda slot: True, returns_from_its_file),
)
