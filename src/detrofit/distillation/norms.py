"""Batch norms measured anew after a swap: the maps that they see have changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from detrofit.model.places import under

BatchNorm = nn.modules.batchnorm._BatchNorm


@torch.no_grad()
def reestimate_norms(
    model: nn.Module, batches: Iterable[Tensor], replaced: Sequence[str], *, keep: Sequence[nn.Module] = ()
) -> int:
    """Average the statistics of batches over, in place, for the batch norms that a swap can have changed.

    Those are the norms in the modules named in `replaced` and all that run after the first of these; norms before it
    see what they saw, and keep their values bit for bit, as all weights do. The model is in eval mode afterwards.

    Args:
        keep: norms that are left alone too.
        batches: images float32 [B,3,H,W] in 0..1, such as the model will see; a few hundred in all are enough.

    Returns how many norms were measured.
    """
    model.eval()
    norms: list[BatchNorm] | None = None
    for images in batches:
        if norms is None:
            norms = [norm for norm in _norms_after(model, images[:1], replaced) if norm not in set(keep)]
            momenta = [norm.momentum for norm in norms]
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # a plain average over the batches
                norm.train()
        model(images)
    if norms is None:
        return 0
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    model.eval()
    return len(norms)


def _norms_after(model: nn.Module, images: Tensor, replaced: Sequence[str]) -> list[BatchNorm]:
    """The batch norms that run in the replaced modules or after the first of them, in the order of running."""
    found: list[BatchNorm] = []
    started = False

    def visit(module: nn.Module, inputs: Any) -> None:
        nonlocal started
        started = started or module in roots
        if started and isinstance(module, BatchNorm) and module.track_running_stats and module not in found:
            found.append(module)

    roots = [module for name, module in model.named_modules() if any(under(name, each) for each in replaced)]
    hooks = [module.register_forward_pre_hook(visit) for module in model.modules()]
    try:
        model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return found
