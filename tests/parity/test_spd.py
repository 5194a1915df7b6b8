"""Space-to-depth and SPD-Conv's bottleneck against the originals."""

from __future__ import annotations

import pytest

from detrofit.parts.blocks.spd_bottleneck import SPDBottleneck
from detrofit.parts.downsamples.spd import SpaceToDepth

from .fixtures import Case, cases
from .naming import load, run, skip_other_arguments

WIDENING = 4  # the original's out_channels are those inside


@pytest.mark.parametrize("case", cases("space_to_depth"))
def test_order_of_channels(case: Case) -> None:
    skip_other_arguments(case.args, ("dimension",))  # which the original keeps and never reads
    case.assert_close(run(SpaceToDepth(), case.inputs["x"]), "y")


@pytest.mark.parametrize("case", cases("spd_bottleneck"))
def test_bottleneck(case: Case) -> None:
    skip_other_arguments(case.args, ("in_channels", "out_channels", "stride"))
    stride = case.args.get("stride", 1)
    if stride > 2:
        pytest.skip(f"space-to-depth halves the map here, which a stride of {stride} does not")
    module = SPDBottleneck(case.args["in_channels"], WIDENING * case.args["out_channels"], stride)
    # Space-to-depth, which has no weights, takes a number in the original's list of layers.
    places = ["reduce.conv", "reduce.norm", None, "conv", *([None] if stride > 1 else []), "norm", None]
    places += ["expand.conv", "expand.norm"]
    names = {f"residual_function.{index}": place for index, place in enumerate(places) if place}
    names |= {"shortcut.0": "shortcut.conv", "shortcut.1": "shortcut.norm"}
    case.assert_close(run(load(module, case.state, names), case.inputs["x"]), "y")
