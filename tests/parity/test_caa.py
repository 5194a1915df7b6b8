"""Context anchor attention against PKINet's."""

from __future__ import annotations

import pytest
from torch import nn

from detrofit.parts.attention.caa import ContextAnchor

from .fixtures import Case, cases
from .naming import load, mmcv_norm_eps, run, set_norm_eps

CLASS_DEFAULT_EPS = 1e-3


@pytest.mark.parametrize("case", cases("caa"))
def test_attention_map(case: Case) -> None:
    args = case.args
    eps = mmcv_norm_eps(args, CLASS_DEFAULT_EPS)
    activation = args.get("act_cfg", {"type": "SiLU"})
    if activation is not None and (eps is None or activation["type"] not in ("SiLU", "Swish")):
        pytest.skip("the 1x1 convolutions have norm and SiLU, norm alone, or neither here")
    module = ContextAnchor(
        args["channels"], args.get("h_kernel_size", 11), args.get("v_kernel_size", 11), norm=eps is not None
    )
    names = {"h_conv.conv": "horizontal", "v_conv.conv": "vertical"}
    names |= {f"{name}.conv" if eps is None else name: name for name in ("conv1", "conv2")}
    if eps is not None:
        set_norm_eps(module, eps)
        for conv in (module.conv1, module.conv2):
            conv.activation = nn.Identity() if activation is None else conv.activation
    case.assert_close(run(load(module, case.state, names), case.inputs["x"]), "y")
