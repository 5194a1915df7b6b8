"""Averaged weights: what is validated and shipped."""

from __future__ import annotations

import copy
import math
from typing import Generic, TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


class ModelAverage(Generic[Module]):
    """Exponential moving average of a model's state, norm statistics included, as a model in eval mode.

    The decay grows as `decay * (1 - exp(-step / ramp))`, so that early weights are soon forgotten.
    """

    def __init__(self, model: Module, decay: float, ramp: float) -> None:
        self.decay, self.ramp = decay, ramp
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        # Looking up all state by name takes longer than averaging it.
        pairs = list(zip(_tensors(self.model), _tensors(model)))
        self._averaged = [average for average, _ in pairs if average.is_floating_point()]
        self._current = [current for _, current in pairs if current.is_floating_point()]
        self._counters = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the model's weights after update number `step` (from 0)."""
        decay = self.decay * (1 - math.exp(-(step + 1) / self.ramp))
        torch._foreach_lerp_(self._averaged, self._current, 1 - decay)
        for average, current in self._counters:
            average.copy_(current)


def _tensors(model: nn.Module) -> list[torch.Tensor]:
    return [*model.parameters(), *model.buffers()]
