"""PKINet's inception, block and stage against the originals."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detrofit.parts.assembly import Assembly, SlotFiller
from detrofit.parts.backbones.pkinet import PKINet, PKIStage
from detrofit.parts.blocks.pki import ConvFFN, PKIBlock, PolyKernelInception
from detrofit.parts.layers import activation_module, make_divisible

from .fixtures import Case, cases
from .naming import load, mmcv_activation, run, set_mmcv_norm, skip_other_arguments

DEFAULT_KERNELS = (3, 5, 7, 9, 11)
CLASS_DEFAULT_EPS = 1e-3
# What a stage hands on to its blocks.
INNER_ARGUMENTS = ("kernel_sizes", "ffn_scale", "ffn_kernel_size", "layer_scale", "add_identity", "with_caa", "act_cfg")
INCEPTION_ARGUMENTS = (
    "in_channels", "out_channels", "kernel_sizes", "expansion", "add_identity", "with_caa", "caa_kernel_size",
    "norm_cfg", "act_cfg",
)  # fmt: skip
BLOCK_ARGUMENTS = (
    *INCEPTION_ARGUMENTS, "ffn_scale", "ffn_kernel_size", "layer_scale", "dropout_rate", "drop_path_rate",
)  # fmt: skip
STAGE_ARGUMENTS = (
    *BLOCK_ARGUMENTS, "num_blocks", "shortcut_with_ffn", "shortcut_ffn_scale", "shortcut_ffn_kernel_size",
)  # fmt: skip


def _inception_names(original: str, ours: str, kernels: tuple[int, ...]) -> dict[str, str]:
    names = {"pre_conv": "pre", "pw_conv": "mix", "post_conv": "post", "dw_conv.conv": "first"}
    names |= {f"dw_conv{index}.conv": f"others.kernel{kernel}" for index, kernel in enumerate(kernels) if index}
    names |= {"caa_factor.conv1.conv": "gate.conv1", "caa_factor.conv2.conv": "gate.conv2"}
    names |= {"caa_factor.h_conv.conv": "gate.horizontal", "caa_factor.v_conv.conv": "gate.vertical"}
    return {original + name: ours + place for name, place in names.items()}


def _ffn_names(original: str, ours: str) -> dict[str, str]:
    layers = {"1": "norm", "3.conv": "widen", "4.conv": "depthwise", "7.conv": "narrow"}
    return {f"{original}ffn_layers.{layer}": ours + place for layer, place in layers.items()}


def _block_names(original: str, ours: str, kernels: tuple[int, ...]) -> dict[str, str]:
    names = {f"{original}{name}": ours + name for name in ("norm1", "norm2")}
    names |= {f"{original}gamma{number}": f"{ours}scale{number}.scale" for number in "12"}
    return names | _inception_names(f"{original}block.", f"{ours}inception.", kernels) | _ffn_names(
        f"{original}ffn.", f"{ours}ffn."
    )  # fmt: skip


def _kernels(args: dict[str, Any]) -> tuple[int, ...]:
    """The original reads the first five."""
    return tuple(args.get("kernel_sizes", DEFAULT_KERNELS))[:5]


def _different(kernels: tuple[int, ...]) -> tuple[int, ...]:
    """Our kernels: of those that read the first one's output, each once."""
    return kernels[0], *dict.fromkeys(kernels[1:])


def _merged(state: dict[str, Tensor], kernels: tuple[int, ...]) -> dict[str, Tensor]:
    """The state with two convolutions of one kernel on the same map as the one that they are together."""
    result: dict[str, Tensor] = {}
    for name, value in state.items():
        found = re.search(r"dw_conv([1-9])\.", name)
        if found:
            first = kernels.index(kernels[int(found[1])], 1)
            name = name.replace(found[0], f"dw_conv{first}.")
        result[name] = result[name] + value if found and name in result else value
    return result


def _block(args: dict[str, Any]) -> PKIBlock:
    return PKIBlock(
        args["in_channels"],
        args.get("out_channels") or args["in_channels"],
        kernels=_different(_kernels(args)),  # type: ignore[arg-type]
        expand=args.get("expansion", 1.0),
        caa_kernel=_caa_kernel(args),
        ffn_expand=args.get("ffn_scale", 4.0),
        ffn_kernel=args.get("ffn_kernel_size", 3),
        layer_scale=args.get("layer_scale", 1.0) or None,
        activation=mmcv_activation(args),  # type: ignore[arg-type]
        residual=args.get("add_identity", True),
    )


def _caa_kernel(args: dict[str, Any]) -> int | None:
    return args.get("caa_kernel_size", 11) if args.get("with_caa", True) else None


@pytest.mark.parametrize("case", cases("pki_inception"))
def test_inception(case: Case) -> None:
    args = case.args
    module = PolyKernelInception(
        args["in_channels"],
        args.get("out_channels") or args["in_channels"],
        _different(_kernels(args)),
        _caa_kernel(args),
        expansion=args.get("expansion", 1.0),
        residual=args.get("add_identity", True),
        activation=mmcv_activation(args),  # type: ignore[arg-type]
    )
    _check(case, module, _inception_names("", "", _kernels(args)), INCEPTION_ARGUMENTS)


@pytest.mark.parametrize("case", cases("pki_block"))
def test_block(case: Case) -> None:
    _check(case, _block(case.args), _block_names("", "", _kernels(case.args)), BLOCK_ARGUMENTS)


@pytest.mark.parametrize("case", cases("pki_stage"))
def test_stage(case: Case) -> None:
    args = case.args
    hidden = make_divisible(int(args["out_channels"] * args.get("expansion", 0.5)))
    inner = {name: args[name] for name in INNER_ARGUMENTS if name in args} | {"in_channels": hidden}
    first_kernel = args.get("caa_kernel_size", 11)
    blocks = [_block({**inner, "caa_kernel_size": first_kernel + 2 * index}) for index in range(args["num_blocks"])]
    ffn: nn.Module = _Zero()
    if args.get("shortcut_with_ffn", True):
        scale, kernel = args.get("shortcut_ffn_scale", 4.0), args.get("shortcut_ffn_kernel_size", 5)
        ffn = ConvFFN(hidden, hidden, scale, kernel, dropout=0.0)
    module: Any = PKIStage(_filler(), args["in_channels"], args["out_channels"], hidden, ffn, blocks)
    names = {"downsample.down_conv": "downsample"} | {name: name for name in ("conv1", "conv2", "conv3")}
    names |= _ffn_names("ffn.", "ffn.")
    for block in range(len(blocks)):
        names |= _block_names(f"blocks.{block}.", f"block{block}.", _kernels(args))
    # Nothing published has another activation in a stage than SiLU, so that it is no argument here.
    module.activation = activation_module(mmcv_activation(args))
    for conv in (module.conv1, module.conv2, module.conv3):
        conv.activation = activation_module(mmcv_activation(args))
    _check(case, module, names, STAGE_ARGUMENTS)


class _Zero(nn.Module):
    """In place of a feed-forward that a stage does without."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


@pytest.mark.parametrize(("size", "millions"), [("t", 4.16), ("s", 13.74), ("b", 25.92)])
def test_parameter_counts(size: str, millions: float) -> None:
    with torch.device("meta"):
        net = PKINet(_filler(), size=size)  # type: ignore[arg-type]
    assert sum(parameter.numel() for parameter in net.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)


def _filler() -> SlotFiller:
    return Assembly({}, {}).filler().at(stage=1)


def _check(case: Case, module: nn.Module, names: dict[str, str], known: tuple[str, ...]) -> None:
    skip_other_arguments({**case.args, "dilations": set(case.args.get("dilations", [1]))}, known, dilations={1})
    set_mmcv_norm(module, case.args, CLASS_DEFAULT_EPS)
    state = _merged(case.state, _kernels(case.args))
    case.assert_close(run(load(module, state, names), case.inputs["x"]), "y")
