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
    branches needs them as they were, and what it takes out is not asked any more.
    """
    fused = copy.deepcopy(model).eval()
    _fuse_in_place(fused)
    return fused


def halve(model: Module, dtype: torch.dtype) -> Module:
    """`model` itself, its convolutions and linear layers held in half precision, to run under autocast to `dtype`.

    Autocast gives the same outputs alone, but converts every weight again for every picture.
    """
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.to(dtype)
    return model


def _fuse_in_place(module: nn.Module) -> None:
    method = getattr(module, "fuse", None)
    if callable(method):
        method()
    for child in module.children():
        _fuse_in_place(child)
