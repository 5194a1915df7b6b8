"""Non-finite losses: find the first tensor at fault, keep the batch as evidence, give up after three in a row."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detrofit.errors import DetrofitError
from detrofit.weights.tensor_file import write_tensors

MAX_IN_A_ROW = 3


class FiniteGuard:
    """Counts bad steps in a row and puts norm statistics back that a bad forward pass may have spoilt."""

    def __init__(self, model: nn.Module, folder: Path, in_a_row: int = 0) -> None:
        self.folder = folder
        self.in_a_row = in_a_row
        self._buffers = list(model.buffers())
        self._before = [buffer.clone() for buffer in self._buffers]

    def remember(self) -> None:
        """Keep the statistics as they are before a step."""
        torch._foreach_copy_(self._before, self._buffers)

    def restore(self) -> None:
        """Put the statistics back as they were before the step."""
        torch._foreach_copy_(self._buffers, self._before)

    def passed(self) -> None:
        """The step was good."""
        self.in_a_row = 0

    def keep(self, name: str, fault: str, images: Tensor, targets: Sequence[Mapping[str, Any]]) -> str:
        """Save a bad batch under that name; returns what is wrong and where the batch is."""
        file = self.folder / f"non_finite_{name}.safetensors"
        tensors = {"images": images.float()}
        for index, target in enumerate(targets):
            tensors |= {f"{key}.{index}": target[key] for key in ("boxes", "labels")}
        pictures = json.dumps([int(target["image_index"]) for target in targets])
        write_tensors(file, tensors, {"fault": fault, "image_indices": pictures})
        return f"{fault} (batch saved as {file})"

    def failed(self, diagnosis: str) -> None:
        """The step was bad and is skipped. Raises DetrofitError with the diagnosis at the third in a row."""
        self.in_a_row += 1
        if self.in_a_row >= MAX_IN_A_ROW:
            raise DetrofitError(
                f"{MAX_IN_A_ROW} steps in a row were not finite; the last: {diagnosis}. "
                "Lower --lr, set train.precision=fp32, or look at that batch's boxes"
            )


def first_fault(model: nn.Module, run: Callable[[], Mapping[str, Tensor]], images: Tensor) -> str | None:
    """Name the first tensor that is not finite: the pictures, a weight, a module's output, a loss or a gradient.

    `run` repeats the step's forward pass and returns its losses. None if all is finite.
    """
    if not torch.isfinite(images).all():
        return "the pictures"
    weight = non_finite_tensor(model)
    if weight is not None:
        return f"the weight {weight}"
    found: list[str] = []
    hooks = [
        module.register_forward_hook(_note(name, found))
        for name, module in model.named_modules()
        if not list(module.children())
    ]
    try:
        losses = run()
    finally:
        for hook in hooks:
            hook.remove()
    if found:
        return f"the output of {found[0]}"
    bad = [name for name, loss in losses.items() if not torch.isfinite(loss)]
    return f"the loss {bad[0]}" if bad else _faulty_gradient(model, losses)


def non_finite_tensor(model: nn.Module) -> str | None:
    """The name of the first parameter or buffer that holds something else than finite numbers."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            return name
    return None


def _faulty_gradient(model: nn.Module, losses: Mapping[str, Tensor]) -> str | None:
    """The first in the order of the backward pass, which is about that of the parameters from the last to the first."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    total = torch.stack(list(losses.values())).sum()
    gradients = torch.autograd.grad(total, list(trained.values()), allow_unused=True)
    bad = [name for name, each in zip(trained, gradients) if each is not None and not torch.isfinite(each).all()]
    return f"the gradient of {bad[-1]}" if bad else None


def _note(name: str, found: list[str]) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and not torch.isfinite(output).all():
            found.append(name)

    return hook
