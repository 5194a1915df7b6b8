"""From the names of original weights to ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def load(module: nn.Module, state: Mapping[str, Tensor], prefixes: Mapping[str, str]) -> nn.Module:
    """`module` in eval mode with the original weights; each must have exactly one place, and each place a weight.

    `prefixes` maps the front of original names to ours, the longest that fits wins; within a convolution with its
    norm, `.bn.` is ours `.norm.`.
    """
    ours = {}
    for name, value in state.items():
        prefix = max((prefix for prefix in prefixes if _is_front(prefix, name)), key=len, default=None)
        if prefix is None:
            raise KeyError(f"no place for the original weight {name}")
        ours[(prefixes[prefix] + name[len(prefix) :]).lstrip(".").replace(".bn.", ".norm.")] = value
    module.load_state_dict(ours, strict=True)
    return module.eval()


def set_norm_eps(module: nn.Module, eps: float) -> None:
    """Give every batch norm the eps that the original was run with."""
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.eps = eps


def mmcv_norm_eps(args: Mapping[str, Any], class_default: float) -> float | None:
    """The eps of the norms that mmcv's `norm_cfg` asks for: the class's by default, None for no norms."""
    config = args.get("norm_cfg", {"eps": class_default})
    return None if config is None else config.get("eps", 1e-5)


def without_bias_before_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`X.conv.bias` before `X.bn` moved into the norm's mean, which is the same function."""
    result = dict(state)
    for name in state:
        mean = name.replace(".conv.bias", ".bn.running_mean")
        if name.endswith(".conv.bias") and mean in state:
            result[mean] = state[mean] - result.pop(name)
    return result


def run(module: nn.Module, *inputs: Tensor) -> Tensor:
    """The module's output without gradients."""
    with torch.no_grad():
        return module(*inputs)


def _is_front(prefix: str, name: str) -> bool:
    return name == prefix or prefix == "" or name.startswith(prefix + ".")
