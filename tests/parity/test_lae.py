"""Lightweight adaptive extraction against LSM-YOLO's."""

from __future__ import annotations

import pytest
import torch

from detrofit.parts.downsamples.lae import LightweightAdaptiveExtraction

from .fixtures import Case, cases
from .naming import load, run, skip_other_arguments


@pytest.mark.parametrize("case", cases("lae"))
def test_output(case: Case) -> None:
    skip_other_arguments(case.args, ("ch", "group"))
    module = LightweightAdaptiveExtraction(case.args["ch"], group_channels=case.args.get("group", 16))
    names = {"attention.1": "attention", "ds_conv": "features"}
    case.assert_close(run(load(module, case.state, names), case.inputs["x"]), "y")


@pytest.mark.parametrize(("channels", "count"), [(128, 91_392), (256, 215_552), (512, 562_176)])
def test_parameter_counts(channels: int, count: int) -> None:
    with torch.device("meta"):
        module = LightweightAdaptiveExtraction(channels)
    assert sum(parameter.numel() for parameter in module.parameters()) == count
