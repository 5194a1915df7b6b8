"""FasterNet's block against the original."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor

from detrofit.parts.blocks.fasternet_block import FasterNetBlock

from .fixtures import Case, cases
from .naming import activation, load, run, skip_other_arguments, skip_other_norm

# Of these, both ways to convolve a part of the channels give the same, and an evaluated block drops no path.
ARGUMENTS = (
    "dim", "mlp_ratio", "n_div", "act_layer", "norm_layer", "layer_scale_init_value", "pconv_fw_type", "drop_path",
)  # fmt: skip
NAMES = {
    "spatial_mixing.partial_conv3": "pconv.conv",
    "mlp.0": "widen.conv",
    "mlp.1": "widen.norm",
    "mlp.3": "narrow",
    "layer_scale": "scale.scale",
}


@pytest.mark.parametrize("case", cases("fasternet_block"))
def test_output(case: Case) -> None:
    module = FasterNetBlock(case.args["dim"], **fasternet_options(case.args))
    case.assert_close(run(load(module, flat_scale(case.state), NAMES), case.inputs["x"]), "y")


def fasternet_options(args: dict[str, Any]) -> dict[str, Any]:
    """The options of `fasternet-block` that make it the original's block of these arguments."""
    skip_other_arguments(args, ARGUMENTS)
    skip_other_norm(args.get("norm_layer"))
    layer_scale = args.get("layer_scale_init_value", 0)
    return {
        "expand": args.get("mlp_ratio", 2.0),
        "divisor": args.get("n_div", 4),
        "activation": activation(args.get("act_layer", "relu")),
        "layer_scale": layer_scale if layer_scale > 0 else None,
    }


def flat_scale(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state with a factor a channel in one dimension, which some versions keep as `[C,1,1]`."""
    return {name: value.flatten() if name == "layer_scale" else value for name, value in state.items()}
