"""Selective boundary aggregation against DuAT's."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from detrofit.parts.fusion.sba import BoundaryAggregation

from .fixtures import Case, cases
from .naming import load, skip_other_arguments

NAMES = {
    "fc1": "narrow_shallow",
    "fc2": "narrow_deep",
    "d_in1": "mix_shallow",
    "d_in2": "mix_deep",
    "conv.0": "merge",
}
TO_ONE_CHANNEL = "conv.1.weight"


@pytest.mark.parametrize("case", cases("sba"))
def test_outputs(case: Case) -> None:
    skip_other_arguments(case.args, ("input_dim",))
    module = BoundaryAggregation(case.args.get("input_dim", 64))
    load(module, {name: value for name, value in case.state.items() if name != TO_ONE_CHANNEL}, NAMES)
    deep, shallow = case.inputs["H_feature"], case.inputs["L_feature"]
    with torch.no_grad():
        case.assert_close(module.aggregate(deep, shallow), "fused")
        feature = module(deep, shallow)
        case.assert_close(feature, "feat")
        case.assert_close(functional.conv2d(feature, case.state[TO_ONE_CHANNEL]), "y")
