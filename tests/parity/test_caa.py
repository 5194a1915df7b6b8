"""Context anchor attention against PKINet's."""

from __future__ import annotations

import pytest

from detrofit.parts.attention.caa import ContextAnchor

from .fixtures import Case, cases
from .naming import load, mmcv_activation, mmcv_norm_eps, run, set_norm_eps

CLASS_DEFAULT_EPS = 1e-3


@pytest.mark.parametrize("case", cases("caa"))
def test_attention_map(case: Case) -> None:
    args = case.args
    eps = mmcv_norm_eps(args, CLASS_DEFAULT_EPS)
    activation = mmcv_activation(args)
    if activation is not None and eps is None:
        pytest.skip("the 1x1 convolutions have no activation without a norm here")
    module = ContextAnchor(
        args["channels"], args.get("h_kernel_size", 11), args.get("v_kernel_size", 11), eps is not None, activation
    )
    names = {"h_conv.conv": "horizontal", "v_conv.conv": "vertical"}
    names |= {f"{name}.conv" if eps is None else name: name for name in ("conv1", "conv2")}
    if eps is not None:
        set_norm_eps(module, eps)
    case.assert_close(run(load(module, case.state, names), case.inputs["x"]), "y")
