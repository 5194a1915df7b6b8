"""Context anchor attention against PKINet's."""

from __future__ import annotations

import pytest

from detrofit.parts.attention.caa import ContextAnchor

from .fixtures import Case, cases
from .naming import load, run, set_norm_eps

CLASS_DEFAULT_EPS = 1e-3


@pytest.mark.parametrize("case", cases("caa"))
def test_attention_map(case: Case) -> None:
    norm = case.args.get("norm_cfg", "default") is not None
    module = ContextAnchor(
        case.args["channels"], case.args.get("h_kernel_size", 11), case.args.get("v_kernel_size", 11), norm
    )
    set_norm_eps(module, CLASS_DEFAULT_EPS)
    names = {"h_conv.conv": "horizontal", "v_conv.conv": "vertical"}
    names |= {name if norm else f"{name}.conv": name for name in ("conv1", "conv2")}
    case.assert_close(run(load(module, case.state, names), case.inputs["x"]), "y")
