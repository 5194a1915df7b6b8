"""Blocks of MobileNetV4, FasterNet and StarNet against the installed timm, arguments and sizes drawn at random."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from detrofit.parts.attention.mqa import MobileMQA
from detrofit.parts.blocks.fasternet_block import FasterNetBlock
from detrofit.parts.blocks.star import StarBlock
from detrofit.parts.blocks.uib import UniversalInvertedBottleneck
from detrofit.parts.layers import activation_module

from .naming import load, without_bias_before_norm
from .test_fasternet import NAMES as FASTERNET_NAMES
from .test_fasternet import fasternet_options, flat_scale
from .test_mqa import NAMES as MQA_NAMES
from .test_mqa import mqa_options
from .test_star import NAMES as STAR_NAMES
from .test_uib import NAMES as UIB_NAMES
from .test_uib import uib_options

blocks = pytest.importorskip("timm.models._efficientnet_blocks")
fasternet = pytest.importorskip("timm.models.fasternet")
starnet = pytest.importorskip("timm.models.starnet")

KERNELS = st.sampled_from([0, 3, 5, 7])
CHANNELS = st.sampled_from([8, 12, 16, 20, 24])
SIDES = st.integers(3, 11)
SCALES = st.sampled_from([None, 1e-5, 0.1])

UIB_ARGUMENTS = st.fixed_dictionaries(
    {
        "in_chs": CHANNELS,
        "out_chs": CHANNELS,
        "dw_kernel_size_start": KERNELS,
        "dw_kernel_size_mid": KERNELS,
        "dw_kernel_size_end": KERNELS,
        "stride": st.sampled_from([1, 2]),
        "exp_ratio": st.sampled_from([0.5, 1.0, 1.7, 2.5, 4.0]),
        "act_layer": st.sampled_from(["relu", "relu6", "silu", "gelu", "hard_swish"]),
        "layer_scale_init_value": SCALES,
        "noskip": st.booleans(),
    }
).filter(lambda args: args["stride"] == 1 or any(args[f"dw_kernel_size_{at}"] for at in ("start", "mid", "end")))

MQA_ARGUMENTS = st.fixed_dictionaries(
    {
        "num_heads": st.integers(1, 5),
        "key_dim": st.sampled_from([4, 8, 12]),
        "value_dim": st.sampled_from([4, 8, 12]),
        "kv_stride": st.integers(1, 3),
        "dw_kernel_size": st.sampled_from([3, 5, 7]),
        "query_strides": st.sampled_from([(1, 1), (2, 2)]),
        "use_cpe": st.booleans(),
        "cpe_dw_kernel_size": st.sampled_from([3, 5, 7]),
        "layer_scale_init_value": SCALES,
        "noskip": st.booleans(),
    }
)

FASTERNET_ARGUMENTS = st.fixed_dictionaries(
    {
        "dim": CHANNELS,
        "n_div": st.integers(1, 8),
        "mlp_ratio": st.sampled_from([0.5, 1.0, 1.7, 3.0]),
        "layer_scale_init_value": st.sampled_from([0, 1e-5, 0.5]),
        "act_layer": st.sampled_from(["relu", "gelu", "silu"]),
    }
)


@settings(max_examples=40)
@given(args=UIB_ARGUMENTS, height=SIDES, width=SIDES, training=st.booleans())
def test_universal_inverted_bottleneck(args: dict[str, Any], height: int, width: int, training: bool) -> None:
    theirs = _random_weights(blocks.UniversalInvertedResidual(**args))
    ours = UniversalInvertedBottleneck(args["in_chs"], args["out_chs"], args["stride"], **uib_options(args))
    load(ours, theirs.state_dict(), UIB_NAMES)
    _check_equal(ours, theirs, torch.randn(2, args["in_chs"], height, width), training)


@settings(max_examples=40)
@given(args=MQA_ARGUMENTS, channels=CHANNELS, height=SIDES, width=SIDES, training=st.booleans())
def test_mobile_mqa(args: dict[str, Any], channels: int, height: int, width: int, training: bool) -> None:
    args = {**args, "in_chs": channels, "out_chs": channels}
    # timm enlarges the result of pooled queries by the stride, which misses odd sides.
    args["query_strides"] = (1, 1) if height % 2 or width % 2 else args["query_strides"]
    theirs = _random_weights(blocks.MobileAttention(**args, use_multi_query=True))
    ours = MobileMQA(channels, **mqa_options(args))
    load(ours, theirs.state_dict(), MQA_NAMES)
    _check_equal(ours, theirs, torch.randn(2, channels, height, width), training)


@settings(max_examples=15)
@given(args=FASTERNET_ARGUMENTS, height=SIDES, width=SIDES, training=st.booleans())
def test_fasternet_block(args: dict[str, Any], height: int, width: int, training: bool) -> None:
    layer = activation_module(args["act_layer"]).__class__
    theirs = _random_weights(fasternet.MLPBlock(**{**args, "act_layer": layer}, drop_path=0.0))
    ours = FasterNetBlock(args["dim"], **fasternet_options(args))
    load(ours, flat_scale(theirs.state_dict()), FASTERNET_NAMES)
    _check_equal(ours, theirs, torch.randn(2, args["dim"], height, width), training)


@settings(max_examples=15)
@given(dim=CHANNELS, expand=st.integers(1, 5), height=SIDES, width=SIDES, training=st.booleans())
def test_star_block(dim: int, expand: int, height: int, width: int, training: bool) -> None:
    theirs = _random_weights(starnet.Block(dim, expand))
    ours = StarBlock(dim, expand=expand)
    load(ours, without_bias_before_norm(theirs.state_dict()), STAR_NAMES)
    _check_equal(ours, theirs, torch.randn(2, dim, height, width), training)


def _random_weights(module: nn.Module) -> nn.Module:
    """Weights and statistics of the usual size, so that no branch is switched off."""
    torch.manual_seed(0)
    for name, tensor in module.state_dict().items():
        if name.endswith("running_var") or (name.endswith(".weight") and tensor.ndim == 1):
            tensor.uniform_(0.5, 1.5)
        elif tensor.is_floating_point() and not name.endswith("gamma"):
            tensor.normal_(0, 0.3)
    return module


def _check_equal(ours: nn.Module, theirs: nn.Module, x: Tensor, training: bool) -> None:
    """The same outputs and gradients with respect to the input, with batch statistics (`training`) or without."""
    results = []
    for module in (ours.train(training), theirs.train(training)):
        image = x.clone().requires_grad_()
        output = module(image)
        results.append((output, *torch.autograd.grad(output.square().sum(), image)))
    for mine, wanted in zip(*results):
        torch.testing.assert_close(mine, wanted, atol=1e-4, rtol=1e-3)
