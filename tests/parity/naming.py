"""From the names of original weights, arguments and activations to ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from detrofit.parts.layers import Activation, ConvNorm

_ACTIVATIONS = {"leakyrelu": "leaky_relu", "swish": "silu", "hswish": "hardswish"}
_BATCH_NORMS = ("bn", "bn2d", "batchnorm", "batchnorm2d", "syncbn", "mmsyncbn", "syncbatchnorm")


def skip_other_arguments(args: Mapping[str, Any], known: Iterable[str], **neutral: Any) -> None:
    """Skip a case with an argument that is not among the `known` ones, unless its value is the `neutral` one or none.

    Devices, types and the start of weights change no output.
    """
    for name in sorted(args.keys() - {*known, "device", "dtype", "init_cfg"}):
        if name not in neutral or args[name] not in (neutral[name], None):
            pytest.skip(f"nothing here has the original's argument {name} = {args[name]!r}")


def activation(name: str | None) -> str | None:
    """Our name of an activation, whoever's name it is; None for none. Skips the case of one that is not here."""
    if name is None:
        return None
    plain = name.lower().rsplit(".")[-1].replace("_", "")
    if plain in ("none", "identity"):
        return None
    ours = _ACTIVATIONS.get(plain, plain)
    if ours not in get_args(get_args(Activation)[0]):
        pytest.skip(f"there is no activation {name} here")
    return ours


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


def skip_other_norm(name: str | None) -> None:
    """Skip a case whose norm has another name than batch norm, which is everybody's default."""
    if name is not None and name.lower().rsplit(".")[-1] not in _BATCH_NORMS:
        pytest.skip(f"the norm is batch norm here, not {name}")


def set_mmcv_norm(module: nn.Module, args: Mapping[str, Any], class_default: float) -> None:
    """Give the norms what mmcv's `norm_cfg` asks for: the class's default eps, another, or plain biased convolutions.

    Norms outside a convolution with its norm stay as torch has them where there is no `norm_cfg`.
    """
    eps = mmcv_norm_eps(args, class_default)
    if eps is not None:
        set_norm_eps(module, eps)
        return
    for child in module.modules():
        if isinstance(child, ConvNorm):
            child.fuse()


def mmcv_norm_eps(args: Mapping[str, Any], class_default: float) -> float | None:
    """The eps of the norms that mmcv's `norm_cfg` asks for: the class's by default, None for no norms."""
    config = args.get("norm_cfg", {"eps": class_default})
    if config is None:
        return None
    skip_other_norm(config.get("type"))
    return config.get("eps", 1e-5)


def mmcv_activation(args: Mapping[str, Any]) -> str | None:
    """The activation that mmcv's `act_cfg` asks for: SiLU by default, None for none."""
    config = args.get("act_cfg", {"type": "SiLU"})
    if config is None:
        return None
    skip_other_arguments(config, ("type", "inplace"))
    return activation(config["type"])


def without_bias_before_norm(state: Mapping[str, Tensor], norm: str = "bn") -> dict[str, Tensor]:
    """`X.conv.bias` before `X.<norm>` moved into the norm's mean, which is the same function."""
    result = dict(state)
    for name in state:
        mean = name.removesuffix("conv.bias") + f"{norm}.running_mean"
        if name.endswith(".conv.bias") and mean in state:
            result[mean] = state[mean] - result.pop(name)
    return result


def run(module: nn.Module, *inputs: Tensor) -> Tensor:
    """The module's output without gradients."""
    with torch.no_grad():
        return module(*inputs)


def _is_front(prefix: str, name: str) -> bool:
    return name == prefix or prefix == "" or name.startswith(prefix + ".")
