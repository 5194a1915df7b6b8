"""Swapping trained parts into a trained model: a retrofit over its own, and all weights that fit."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from detrofit.model.build import assemble, build_model
from detrofit.model.detector import RTDETR
from detrofit.parts.retrofit import PartChoice, parse_retrofit

State = Mapping[str, Tensor]


def with_swaps(model: RTDETR, swaps: Mapping[str, PartChoice], *, seed: int = 0) -> RTDETR:
    """A copy of `model` in eval mode with other parts in the slots of `swaps`.

    Every tensor whose name and shape stay keeps its value, bit for bit; the others are drawn from `seed`. Raises
    DetrofitError for a slot, part or option that does not fit.
    """
    stock = parse_retrofit(model.slots)
    with torch.device("meta"):
        # What of the model's own retrofit is still there: the rest lay in parts that are taken out.
        offered = assemble(model.frame, stock, swaps, num_classes=model.num_classes)[0].slots
    kept = {address: stock[address] for address in model.retrofit if address in stock and address in offered}
    student = build_model(model.frame, stock, {**kept, **swaps}, num_classes=model.num_classes, seed=seed)
    copy_fitting(student, model.state_dict())
    return student.eval()


@torch.no_grad()
def copy_fitting(model: RTDETR, state: State) -> None:
    """Give `model` every tensor of `state` that has its name and shape."""
    for name, tensor in model.state_dict().items():
        given = state.get(name)
        if given is not None and given.shape == tensor.shape:
            tensor.copy_(given)


def put_trained(model: RTDETR, states: Mapping[str, State]) -> None:
    """Give the modules with these names their trained states."""
    for name, state in states.items():
        model.get_submodule(name).load_state_dict(state)
