"""Parameter groups by slot and kind, frozen parts, and AdamW."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from detrofit.config.schema import TrainSettings
from detrofit.errors import DetrofitError
from detrofit.model.detector import RTDETR
from detrofit.model.places import modules_at, under
from detrofit.parts.retrofit import expand_address
from detrofit.training.plan import Plan


def make_optimizer(model: RTDETR, settings: TrainSettings, plan: Plan) -> torch.optim.AdamW:
    """AdamW with the published groups: norms and biases without decay, the backbone at a rate of its own.

    `lr_by_slot` multiplies the rate of all under an address; the longest address that matches counts.
    """
    by_address = {single: rate for given, rate in settings.lr_by_slot.items() for single in expand_address(given)}
    factors = {"backbone": plan.backbone_lr_factor}
    for address in sorted(by_address, key=len):
        factors |= dict.fromkeys(modules_at(model, address, "train.lr_by_slot"), by_address[address])
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = 0.0 if parameter.ndim <= 1 else settings.weight_decay  # norms, biases, scales
            groups.setdefault((_factor(name, factors), decay), []).append(parameter)
    if not groups:
        raise DetrofitError("train.freeze leaves nothing to train; leave a part out of it")
    return torch.optim.AdamW(
        [
            {"params": parameters, "weight_decay": decay, "lr": plan.lr * factor, "peak_lr": plan.lr * factor}
            for (factor, decay), parameters in groups.items()
        ],
        betas=settings.betas,
        fused=True,  # on a CPU a third of the time of the other kinds
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Every group's rate as a share of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor


def freeze(model: RTDETR, addresses: Iterable[str]) -> None:
    """No gradients for anything under these addresses, and their batch norms keep their statistics."""
    modules = [name for address in addresses for name in modules_at(model, address, "train.freeze")]
    for name, parameter in model.named_parameters():
        if any(under(name, module) for module in modules):
            parameter.requires_grad_(False)


def freeze_norms(model: RTDETR, addresses: Iterable[str]) -> list[nn.Module]:
    """The batch norms under these addresses, their weights frozen; the loop keeps them in eval mode."""
    modules = [name for address in addresses for name in modules_at(model, address, "train.frozen_norms")]
    frozen: list[nn.Module] = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and any(under(name, each) for each in modules)
    ]
    for norm in frozen:
        norm.requires_grad_(False)
    return frozen


def _factor(name: str, factors: Mapping[str, float]) -> float:
    """The factor of the innermost module around a parameter that has one."""
    matching = [module for module in factors if under(name, module)]
    return factors[max(matching, key=len)] if matching else 1.0
