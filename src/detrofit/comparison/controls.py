"""Controls: other ways to spend what a variant costs, so that a gain over a weak base is not taken for a good swap."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from detrofit.config.schema import Experiment
from detrofit.model.frame import Frame

CONTROLS = ("longer", "fewer-layers", "more-layers", "smaller-input", "larger-input", "zoo")
ZOO_BY_SIZE = (
    ("rtdetr-n", "rtdetr-s", "rtdetr-r18", "rtdetr-r34", "rtdetr-r50m", "rtdetr-r50", "rtdetr-r101"),
    ("rtdetr-l", "rtdetr-x", "rtdetr-h"),
    ("rtdetrv2-r18", "rtdetrv2-r34", "rtdetrv2-r50m", "rtdetrv2-r50", "rtdetrv2-r101"),
    ("rtdetrv2-l", "rtdetrv2-x", "rtdetrv2-h"),
)
SIZE_STEP, LARGEST_SIDE, MOST_LAYERS = 32, 4096, 12
Changes = dict[str, dict[str, Any]]  # of each control, by name


def control_changes(
    names: Sequence[str],
    base: Experiment,
    frame: Frame,
    compute: Callable[[Experiment], float],
    variants_compute: Sequence[float],
) -> tuple[Changes, list[str]]:
    """The changes that make each control of the base, and a line for each control that there cannot be.

    Args:
        frame: of the base's model.
        compute: operations of an experiment's training, up to a common factor.
        variants_compute: the same of each variant.
    """
    made: dict[str, Callable[[], Changes]] = {
        "longer": lambda: _longer(base, compute, variants_compute),
        "fewer-layers": lambda: _decoder(frame, frame.decoder_layers - 1),
        "more-layers": lambda: _decoder(frame, frame.decoder_layers + 1),
        "smaller-input": lambda: _input(base, -SIZE_STEP),
        "larger-input": lambda: _input(base, SIZE_STEP),
        "zoo": lambda: _zoo(base),
    }
    found = {name: made[name]() for name in names}
    notes = [f"control '{name}' is left out: {_WHY_NOT[name]}" for name, changes in found.items() if not changes]
    return {name: changes for each in found.values() for name, changes in each.items()}, notes


_WHY_NOT = {
    "longer": "no variant takes more compute than the base, or train.epochs is not given",
    "fewer-layers": "the decoder has no layer to spare",
    "more-layers": "the decoder cannot have another layer",
    "smaller-input": "there is no smaller input",
    "larger-input": "there is no larger input",
    "zoo": "the zoo has no larger model of this kind",
}


def _longer(base: Experiment, compute: Callable[[Experiment], float], variants_compute: Sequence[float]) -> Changes:
    """As many epochs as make up for what the dearest variant takes, by operations."""
    if base.train.epochs is None or not variants_compute:
        return {}
    epochs = math.ceil(base.train.epochs * max(variants_compute) / compute(base))
    return {f"base, {epochs} epochs": {"train.epochs": epochs}} if epochs > base.train.epochs else {}


def _decoder(frame: Frame, layers: int) -> Changes:
    if not max(1, frame.eval_decoder_layers or 0) <= layers <= MOST_LAYERS:
        return {}
    return {f"base, {layers} decoder layer{'s' * (layers > 1)}": {"model.decoder_layers": layers}}


def _input(base: Experiment, step: int) -> Changes:
    height, width = (side + step for side in base.imgsz)
    if not SIZE_STEP <= min(height, width) <= max(height, width) <= LARGEST_SIDE:
        return {}
    return {f"base at {height}x{width}": {"imgsz": [height, width]}}


def _zoo(base: Experiment) -> Changes:
    name = base.model.name
    larger = {one: other for ladder in ZOO_BY_SIZE for one, other in itertools.pairwise(ladder)}
    return {larger[name]: {"model": larger[name]}} if name in larger else {}
