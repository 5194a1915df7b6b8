"""Mobile multi-query attention against timm's, which the fixtures come from."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from detrofit.parts.attention.mqa import MobileMQA
from detrofit.parts.layers import LayerScale

from .fixtures import Case, cases
from .naming import load, run, skip_other_arguments, skip_other_norm

NAMES = {
    "conv_cpe_dw": "position",
    "norm": "norm",
    "attn.query.norm": "pool.1",
    "attn.query.proj": "query",
    "attn.output.proj": "output",
    "layer_scale.gamma": "scale.scale",
} | {
    f"attn.{which}.{theirs}": f"{which}.{ours}"
    for which in ("key", "value")
    for theirs, ours in (("down_conv", "reduce"), ("norm", "norm"), ("proj", "projection"))
}


# Of these, activation, bias and dropout play no role in an evaluated block of multi-query attention.
ARGUMENTS = (
    "in_chs", "out_chs", "stride", "num_heads", "key_dim", "value_dim", "kv_stride", "dw_kernel_size", "query_strides",
    "use_cpe", "cpe_dw_kernel_size", "layer_scale_init_value", "drop_path_rate", "noskip", "act_layer", "norm_layer",
    "use_bias", "attn_drop", "proj_drop",
)  # fmt: skip


@pytest.mark.parametrize("case", cases("mobile_mqa"))
def test_output(case: Case) -> None:
    options = mqa_options(case.args)
    if any(side % options["query_stride"] for side in case.inputs["x"].shape[2:]):
        pytest.skip("the original's pooled queries leave out what fills no pool; here the last pools are smaller")
    module: Any = MobileMQA(case.args["in_chs"], **options)
    width = case.args["out_chs"]
    if width != case.args["in_chs"]:  # the slots keep the width, and so does the part; the original may end in another
        module.output = nn.Conv2d(module.output.in_channels, width, 1, bias=False)
        module.scale = LayerScale(width, 1.0) if options["layer_scale"] is not None else nn.Identity()
    case.assert_close(run(load(module, case.state, NAMES), case.inputs["x"]), "y")


def mqa_options(args: dict[str, Any]) -> dict[str, Any]:
    """The options of `mqa` that make it timm's block of these arguments."""
    skip_other_arguments(args, ARGUMENTS, dilation=1, pad_type="", group_size=1, aa_layer=None, use_multi_query=True)
    skip_other_norm(args.get("norm_layer"))
    query_strides = args.get("query_strides", [1, 1])
    vertical, horizontal = [query_strides] * 2 if isinstance(query_strides, int) else query_strides
    if vertical != horizontal:
        pytest.skip("queries are pooled alike in height and width here")
    key_dim, heads = args.get("key_dim", 64), args.get("num_heads", 8)
    return {
        "heads": heads or args["in_chs"] // key_dim,
        "key_dim": key_dim,
        "value_dim": args.get("value_dim", 64),
        "kv_stride": args.get("kv_stride", 1),
        "kv_kernel": args.get("dw_kernel_size", 3),
        "query_stride": vertical,
        "position_kernel": args.get("cpe_dw_kernel_size", 3) if args.get("use_cpe") else 0,
        "layer_scale": args.get("layer_scale_init_value", 1e-5),
        "drop_path": args.get("drop_path_rate", 0.0),
        # All that a stride does there is to leave the sum out.
        "residual": not args.get("noskip", False) and args.get("stride", 1) == 1 and args["out_chs"] == args["in_chs"],
    }
