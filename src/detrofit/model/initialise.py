"""Initial values: each module under a generator of its own, so that a swap leaves all others bit-identical."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from detrofit.randomness import derive_seed


def initialise(model: nn.Module, seed: int) -> None:
    """Draw every initial value anew from (seed, qualified name of the module), children before their parents.

    A module draws in its `reset_parameters()`, as torch's own do; a parent's may overrule its children's. Names are
    semantic, so inserting or replacing a module changes no other module's values.
    """
    modules = dict(model.named_modules())
    with torch.random.fork_rng(devices=[]):
        for name in sorted(modules, key=lambda name: (-_depth(name), name)):
            reset = _reset_method(modules[name])
            if reset is not None:
                torch.manual_seed(derive_seed(seed, "initial", name))
                reset()


def _depth(name: str) -> int:
    return name.count(".") + 1 if name else 0


def _reset_method(module: nn.Module) -> Callable[[], Any] | None:
    method = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
    return method if callable(method) else None
