"""What a model costs: parameters and floating-point operations of each slot, counted by torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from detrofit.parts.assembly import Filled


def count_parameters(module: nn.Module) -> int:
    """Learnable and frozen parameters, without buffers."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_flops(model: nn.Module, image_size: tuple[int, int]) -> int:
    """Floating-point operations of one image [1,3,H,W] in eval mode.

    Counted by torch's dispatcher-level counter where the model is, fastest on the meta device: two for each
    multiply-add of convolutions and matrix products, attention by its two matrix products. Norms, activations, sums,
    sampling and softmax count as none.
    """
    return flops_by_module(model, image_size)[""]


@dataclass(frozen=True)
class SlotCost:
    """A filled place: where it is, what it holds, its input and output shapes, parameters and operations."""

    filled: Filled
    input_shape: tuple[int, ...] | None
    output_shape: tuple[int, ...] | None
    parameters: int
    flops: int


def slot_costs(model: nn.Module, filled: Iterable[Filled], image_size: tuple[int, int]) -> list[SlotCost]:
    """The cost of each filled place of `model` at that image size (height, width)."""
    names = {id(module): name for name, module in model.named_modules()}
    shapes: dict[int, tuple[Any, Any]] = {}
    places = list(filled)
    hooks = [place.module.register_forward_hook(_keep_shapes(shapes)) for place in places]
    try:
        flops = flops_by_module(model, image_size)
    finally:
        for hook in hooks:
            hook.remove()
    return [
        SlotCost(
            place,
            *shapes.get(id(place.module), (None, None)),
            count_parameters(place.module),
            flops.get(names.get(id(place.module), "?"), 0),
        )
        for place in places
    ]


def _keep_shapes(shapes: dict[int, tuple[Any, Any]]) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        shapes[id(module)] = (_shape(inputs[0]), _shape(output))

    return hook


def _shape(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return tuple(value.shape)
    return tuple(_shape(item) for item in value) if isinstance(value, (list, tuple)) else None


def flops_by_module(model: nn.Module, image_size: tuple[int, int]) -> dict[str, int]:
    """Operations under each module's qualified name; the whole under the empty name."""
    was_training = model.training
    model.eval()
    counter = FlopCounterMode(display=False)
    device = next(model.parameters()).device
    image = torch.zeros(1, 3, *image_size, device=device)
    try:
        # The math kernel: the fused ones are not counted on every device.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            model(image)
    finally:
        model.train(was_training)
    root = type(model).__name__
    counts = {name: sum(operations.values()) for name, operations in counter.get_flop_counts().items()}
    return {"": counts["Global"], **{name.removeprefix(f"{root}."): count for name, count in counts.items()}}
