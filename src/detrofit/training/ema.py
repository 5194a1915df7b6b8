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

    @torch.no_grad()
    def update(self, model: Module, step: int) -> None:
        """Take in the weights after update number `step` (from 0)."""
        decay = self.decay * (1 - math.exp(-(step + 1) / self.ramp))
        state = model.state_dict()
        averaged, current = [], []
        for name, tensor in self.model.state_dict().items():
            if tensor.is_floating_point():
                averaged.append(tensor)
                current.append(state[name])
            else:
                tensor.copy_(state[name])
        torch._foreach_lerp_(averaged, current, 1 - decay)
