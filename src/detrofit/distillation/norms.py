"""Batch norms measured anew after a swap: the maps that they see have changed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
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


class NormShift:
    """Moves the batch norms of grafted models as far as the swap has moved what they see.

    A trained model loses accuracy when its norms are merely measured anew, whether or not anything was swapped: its
    running statistics are those of a whole training's average. Both it and the grafted model are therefore measured, on
    the same pictures, and its own statistics are moved by the difference, which is none without a swap: the mean by
    what was added, the variance by what it was multiplied with.

    Args:
        model: the trained model, which stays as it is.
        batches: gives the same images float32 [B,3,H,W] in 0..1 at each call.
        replaced: names of all modules that may be swapped.
    """

    def __init__(self, model: nn.Module, batches: Callable[[], Iterable[Tensor]], replaced: Sequence[str]) -> None:
        self.batches, self.replaced = batches, list(replaced)
        measured = copy.deepcopy(model)
        reestimate_norms(measured, batches(), replaced)
        self._trained, self._measured = _statistics(model), _statistics(measured)

    @torch.no_grad()
    def __call__(self, student: nn.Module, swapped: Sequence[str]) -> None:
        """Set the norms of a copy of the model in which the modules named in `swapped` are other ones, in place.

        Norms in these take what is measured.
        """
        reestimate_norms(student, self.batches(), self.replaced)
        for name, (mean, var, eps) in _statistics(student).items():
            if name in self._trained and not any(under(name, each) for each in swapped):
                (own_mean, own_var, _), (seen_mean, seen_var, _) = self._trained[name], self._measured[name]
                mean.add_(own_mean - seen_mean)
                var.add_(eps).mul_(own_var / (seen_var + eps))  # eps: what hardly varies is not to ask for much


def _statistics(model: nn.Module) -> dict[str, tuple[Tensor, Tensor, float]]:
    """Running mean, running variance and epsilon of each batch norm that keeps them, by its name."""
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, BatchNorm) and module.running_mean is not None and module.running_var is not None:
            found[name] = (module.running_mean, module.running_var, module.eps)
    return found


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
