"""Universal inverted bottlenecks against timm's, which the fixtures come from: the general part and its named forms."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from detrofit.parts.blocks.uib import UniversalInvertedBottleneck
from detrofit.parts.registry import get_part

from .fixtures import Case, cases
from .naming import activation, load, run, skip_other_arguments, skip_other_norm

NAMES = {
    "dw_start": "start",
    "pw_exp": "expand",
    "dw_mid": "middle",
    "pw_proj": "project",
    "dw_end": "end",
    "layer_scale.gamma": "scale.scale",
}
# timm's arguments that are ours under other names, with its defaults.
OPTIONS = {
    "dw_kernel_size_start": ("start_kernel", 0),
    "dw_kernel_size_mid": ("middle_kernel", 3),
    "dw_kernel_size_end": ("end_kernel", 0),
    "exp_ratio": ("expand", 1.0),
    "layer_scale_init_value": ("layer_scale", 1e-5),
    "drop_path_rate": ("drop_path", 0.0),
}
FORMS = {"uib_ib": "ib", "uib_convnext": "convnext-like", "uib_extradw": "extradw", "uib_ffn": "ffn"}


@pytest.mark.parametrize("case", cases("uib_*"))
def test_general(case: Case) -> None:
    args = case.args
    module = UniversalInvertedBottleneck(args["in_chs"], args["out_chs"], args.get("stride", 1), **uib_options(args))
    _check(case, module)


@pytest.mark.parametrize("case", cases("uib_*"))
def test_named_form(case: Case) -> None:
    if case.fixture not in FORMS:
        pytest.skip(f"{case.fixture} is no named form: the general 'uib' is compared")
    part = get_part(FORMS[case.fixture])
    options = uib_options(case.args)
    absent = {name for name in options if name not in part.parameters}
    if any(options[name] for name in absent):
        pytest.skip(f"'{part.name}' has no {sorted(absent)[0]}: the general 'uib' has")
    numbers = {"in_channels": case.args["in_chs"], "out_channels": case.args["out_chs"]}
    numbers["stride"] = case.args.get("stride", 1)
    _check(case, part.build(**part.accepts(numbers), **{k: v for k, v in options.items() if k not in absent}))


def uib_options(args: dict[str, Any]) -> dict[str, Any]:
    """The options of `uib` that make it timm's block of these arguments."""
    known = {*OPTIONS, "in_chs", "out_chs", "stride", "act_layer", "norm_layer", "noskip"}
    neutral = {"dilation": 1, "group_size": 1, "pad_type": "", "se_layer": None, "aa_layer": None, "conv_kwargs": {}}
    skip_other_arguments(args, known, **neutral)
    skip_other_norm(args.get("norm_layer"))
    options = {ours: args.get(theirs, default) for theirs, (ours, default) in OPTIONS.items()}
    options["activation"] = activation(args.get("act_layer", "relu"))
    options["residual"] = not args.get("noskip", False)
    return options


def _check(case: Case, module: nn.Module) -> None:
    case.assert_close(run(load(module, case.state, NAMES), case.inputs["x"]), "y")
