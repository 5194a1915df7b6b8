"""Mobile multi-query attention against timm's, which the fixtures come from."""

from __future__ import annotations

from typing import Any

import pytest

from detrofit.parts.attention.mqa import MobileMQA

from .fixtures import Case, cases
from .naming import load, run

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


@pytest.mark.parametrize("case", cases("mobile_mqa"))
def test_output(case: Case) -> None:
    module = MobileMQA(case.args["in_chs"], **mqa_options(case.args))
    case.assert_close(run(load(module, case.state, NAMES), case.inputs["x"]), "y")


def mqa_options(args: dict[str, Any]) -> dict[str, Any]:
    """The options of `mqa` that make it timm's block of these arguments."""
    query_strides = args.get("query_strides", [1, 1])
    vertical, horizontal = [query_strides] * 2 if isinstance(query_strides, int) else query_strides
    if vertical != horizontal:
        pytest.skip("queries are pooled alike in height and width here")
    if args["out_chs"] != args["in_chs"] or args.get("stride", 1) != 1:
        pytest.skip("attention keeps the shape here")
    return {
        "heads": args.get("num_heads", 8),
        "key_dim": args.get("key_dim", 64),
        "value_dim": args.get("value_dim", 64),
        "kv_stride": args.get("kv_stride", 1),
        "kv_kernel": args.get("dw_kernel_size", 3),
        "query_stride": vertical,
        "position_kernel": args.get("cpe_dw_kernel_size", 3) if args.get("use_cpe") else 0,
        "layer_scale": args.get("layer_scale_init_value", 1e-5),
        "drop_path": args.get("drop_path_rate", 0.0),
        "residual": not args.get("noskip", False),
    }
