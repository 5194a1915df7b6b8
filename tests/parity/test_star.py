"""StarNet's block against the original."""

from __future__ import annotations

import pytest

from detrofit.parts.blocks.star import StarBlock

from .fixtures import Case, cases
from .naming import load, run, skip_other_arguments, without_bias_before_norm

NAMES = {
    "dwconv": "depthwise1",
    "f1.conv": "f1",
    "f2.conv": "f2",
    "g": "narrow",
    "dwconv2.conv": "depthwise2",
}


@pytest.mark.parametrize("case", cases("starnet_block"))
def test_output(case: Case) -> None:
    skip_other_arguments(case.args, ("dim", "mlp_ratio", "drop_path"))
    module = StarBlock(case.args["dim"], expand=case.args.get("mlp_ratio", 3))
    state = without_bias_before_norm(case.state)
    case.assert_close(run(load(module, state, NAMES), case.inputs["x"]), "y")
