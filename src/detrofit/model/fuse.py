"""The deploy form of a model: norms folded into convolutions, parallel branches merged."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


@torch.no_grad()
def fuse(model: Module) -> Module:
    """A copy of `model` in eval mode and deploy form, with outputs equal up to rounding.

    Whatever module has a `fuse()` method is asked to, in place, parents before children: a parent that merges its
    branches needs them as they were.
    """
    fused = copy.deepcopy(model).eval()
    for module in list(fused.modules()):
        method = getattr(module, "fuse", None)
        if callable(method):
            method()
    return fused
