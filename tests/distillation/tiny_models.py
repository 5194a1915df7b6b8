"""Tiny models and batches for the tests of the room."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from detrofit.config.models import build
from detrofit.distillation.norms import reestimate_norms
from detrofit.model.detector import RTDETR
from detrofit.parts.retrofit import PartChoice, parse_retrofit

SIZE = (64, 64)
SETTINGS = {"num_queries": 20, "decoder_layers": 1, "num_denoising": 0, "hidden_dim": 32, "decoder_dim": 32}
SMALL = {"backbone": {"part": "resnet-vd", "depth": 18, "widths": [16, 16, 16, 16]}}


def tiny_model(retrofit: dict[str, Any] | None = None, seed: int = 0) -> RTDETR:
    """A model of a few hundred thousand numbers whose batch norms have seen pictures."""
    model = build("rtdetr-n", {**SMALL, **(retrofit or {})}, num_classes=3, settings=SETTINGS, seed=seed)
    reestimate_norms(model, [images(number, 16) for number in range(2)], ["backbone"])
    return model


def images(number: int, count: int = 4) -> Tensor:
    """Smooth noise in 0..1, the same for the same number."""
    generator = torch.Generator().manual_seed(number)
    coarse = torch.rand(count, 3, 8, 8, generator=generator)
    return torch.nn.functional.interpolate(coarse, SIZE, mode="bilinear")


def swap(address: str, choice: Any) -> dict[str, PartChoice]:
    return parse_retrofit({address: choice})
