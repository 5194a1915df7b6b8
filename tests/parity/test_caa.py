"""Context anchor attention against PKINet's."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from detrofit.parts.attention.caa import ContextAnchor
from detrofit.parts.layers import activation_module

from .fixtures import Case, cases
from .naming import load, mmcv_activation, mmcv_norm_eps, run, set_norm_eps, skip_other_arguments

CLASS_DEFAULT_EPS = 1e-3


@pytest.mark.parametrize("case", cases("caa"))
def test_attention_map(case: Case) -> None:
    args = case.args
    skip_other_arguments(args, ("channels", "h_kernel_size", "v_kernel_size", "norm_cfg", "act_cfg"))
    eps = mmcv_norm_eps(args, CLASS_DEFAULT_EPS)
    activation = mmcv_activation(args)
    module: Any = ContextAnchor(
        args["channels"], args.get("h_kernel_size", 11), args.get("v_kernel_size", 11), eps is not None, activation
    )
    names = {"h_conv.conv": "horizontal", "v_conv.conv": "vertical"}
    names |= {f"{name}.conv" if eps is None else name: name for name in ("conv1", "conv2")}
    if eps is not None:
        set_norm_eps(module, eps)
    elif activation is not None:  # which the original's class can have without a norm, though nothing published does
        names |= {"conv1.conv": "conv1.0", "conv2.conv": "conv2.0"}
        module.conv1, module.conv2 = (
            nn.Sequential(conv, activation_module(activation)) for conv in (module.conv1, module.conv2)
        )
    case.assert_close(run(load(module, case.state, names), case.inputs["x"]), "y")
