"""Controls: other ways to spend what a variant costs, so that a gain over a weak base is not taken for a good swap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from detrofit.config.schema import Experiment
from detrofit.model.frame import Frame

CONTROLS = ("longer", "decoder", "size", "zoo")
ZOO_BY_SIZE = ("rtdetr-n", "rtdetr-s", "rtdetr-r18", "rtdetr-r34", "rtdetr-r50m", "rtdetr-r50", "rtdetr-r101")
SIZE_STEP = 32


def control_changes(
    names: Sequence[str], base: Experiment, frame: Frame, base_gflops: float, variant_gflops: Sequence[float]
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The changes that make each control of the base, by name, and a line for each control that there cannot be.

    `longer` trains for the compute of the dearest variant, by operations of a picture.
    """
    found: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    for name in names:
        changes = {
            "longer": lambda: _longer(base, base_gflops, variant_gflops),
            "decoder": lambda: _decoder(frame),
            "size": lambda: _size(base),
            "zoo": lambda: _zoo(base),
        }[name]()
        found |= changes
        if not changes:
            notes.append(f"control '{name}' is left out: {_WHY_NOT[name]}")
    return found, notes


_WHY_NOT = {
    "longer": "no variant takes more compute than the base, or train.epochs is not given",
    "decoder": "the decoder cannot lose or gain a layer",
    "size": "there is no other input size",
    "zoo": "the base has no neighbour of another size in the zoo",
}


def _longer(base: Experiment, base_gflops: float, variant_gflops: Sequence[float]) -> dict[str, dict[str, Any]]:
    ratio = max(variant_gflops, default=0.0) / base_gflops
    if base.train.epochs is None or ratio <= 1:
        return {}
    epochs = math.ceil(base.train.epochs * ratio)
    return {f"base, {epochs} epochs": {"train.epochs": epochs}} if epochs > base.train.epochs else {}


def _decoder(frame: Frame) -> dict[str, dict[str, Any]]:
    layers = [frame.decoder_layers - 1, frame.decoder_layers + 1]
    eval_layers = frame.eval_decoder_layers or 0
    return {
        f"base, {number} decoder layers": {"model.decoder_layers": number}
        for number in layers
        if max(1, eval_layers) <= number <= 12
    }


def _size(base: Experiment) -> dict[str, dict[str, Any]]:
    height, width = base.imgsz
    return {
        f"base at {height + step}x{width + step}": {"imgsz": [height + step, width + step]}
        for step in (-SIZE_STEP, SIZE_STEP)
        if min(height, width) + step >= SIZE_STEP
    }


def _zoo(base: Experiment) -> dict[str, dict[str, Any]]:
    name = base.model.name
    if name not in ZOO_BY_SIZE[:-1]:
        return {}
    larger = ZOO_BY_SIZE[ZOO_BY_SIZE.index(name) + 1]
    return {larger: {"model": larger}}
