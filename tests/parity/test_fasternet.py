"""FasterNet's block against the original."""

from __future__ import annotations

import pytest

from detrofit.parts.blocks.fasternet_block import FasterNetBlock

from .fixtures import Case, cases
from .naming import activation, load, run

NAMES = {
    "spatial_mixing.partial_conv3": "pconv.conv",
    "mlp.0": "widen.conv",
    "mlp.1": "widen.norm",
    "mlp.3": "narrow",
    "layer_scale": "scale.scale",
}


@pytest.mark.parametrize("case", cases("fasternet_block"))
def test_output(case: Case) -> None:
    args = case.args
    module = FasterNetBlock(
        args["dim"],
        expand=args["mlp_ratio"],
        divisor=args["n_div"],
        activation=activation(args["act_layer"]),
        layer_scale=args["layer_scale_init_value"] or None,
    )
    state = {name: value.flatten() if name == "layer_scale" else value for name, value in case.state.items()}
    case.assert_close(run(load(module, state, NAMES), case.inputs["x"]), "y")
