"""Non-finite losses: find the first tensor at fault, keep the batch as evidence, give up after three in a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from detrofit.errors import DetrofitError
from detrofit.files import atomic_write

MAX_IN_A_ROW = 3


class FiniteGuard:
    """Counts bad steps in a row and puts norm statistics back that a bad forward pass may have spoilt."""

    def __init__(self, model: nn.Module, folder: Path) -> None:
        self.folder = folder
        self.in_a_row = 0
        self._buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        self._before = [buffer.clone() for buffer in self._buffers]

    def remember(self) -> None:
        """Keep the statistics as they are before a step."""
        torch._foreach_copy_(self._before, self._buffers)

    def passed(self) -> None:
        """The step was good."""
        self.in_a_row = 0

    def failed(self, step: int, fault: str, images: Tensor, targets: Sequence[Mapping[str, Any]]) -> Path:
        """The step was bad: restore the statistics and save its batch. Raises DetrofitError at the third in a row."""
        torch._foreach_copy_(self._buffers, self._before)
        self.in_a_row += 1
        file = self.folder / f"non_finite_step{step}.safetensors"
        tensors = {"images": images.detach().float().cpu().contiguous()}
        for index, target in enumerate(targets):
            for key in ("boxes", "labels"):
                tensors[f"{key}.{index}"] = target[key].detach().cpu().contiguous()
        with atomic_write(file) as temporary:
            safetensors.torch.save_file(tensors, temporary, {"fault": fault, "step": str(step)})
        if self.in_a_row >= MAX_IN_A_ROW:
            raise DetrofitError(
                f"{MAX_IN_A_ROW} steps in a row were not finite; the last: {fault} (batch saved as {file}). "
                "Lower --lr, set train.precision=fp32, or look at that batch's boxes"
            )
        return file


def first_fault(model: nn.Module, run: Callable[[], Mapping[str, Tensor]], images: Tensor) -> str:
    """Name the first tensor that is not finite: the pictures, a weight, a module's output, or a loss.

    `run` repeats the step's forward pass and returns its losses.
    """
    if not torch.isfinite(images).all():
        return "the pictures"
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            return f"the weight {name}"
    found: list[str] = []
    hooks = [
        module.register_forward_hook(_note(name, found))
        for name, module in model.named_modules()
        if not list(module.children())
    ]
    try:
        with torch.no_grad():
            losses = run()
    finally:
        for hook in hooks:
            hook.remove()
    if found:
        return f"the output of {found[0]}"
    bad = [name for name, loss in losses.items() if not torch.isfinite(loss)]
    return f"the loss {bad[0]}" if bad else "a gradient"


def _note(name: str, found: list[str]) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and not torch.isfinite(output).all():
            found.append(name)

    return hook
