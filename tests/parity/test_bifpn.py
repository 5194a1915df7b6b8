"""BiFPN's node and layer against efficientdet-pytorch's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from detrofit.parts.fusion.bifpn import BiFPNLayer, BiFPNNode, Resample

from .fixtures import Case, cases
from .naming import load, run, set_norm_eps


def _node_names(original: str, ours: str, inputs: int) -> dict[str, str]:
    names = {
        "combine.edge_weights": "weights",
        "after_combine.conv.conv_dw": "depthwise",
        "after_combine.conv.conv_pw": "pointwise.conv",
        "after_combine.conv.bn": "pointwise.norm",
    }
    for index in range(inputs):
        names[f"combine.resample.{index}.conv.conv"] = f"projections.input{index}.conv"
        names[f"combine.resample.{index}.conv.bn"] = f"projections.input{index}.norm"
    return {original + name: ours + place for name, place in names.items()}


def _resample(size: list[int], target: list[int]) -> Resample:
    if size == target:
        return "same"
    if size[0] < target[0]:
        return "up"
    if [-(-side // 2) for side in size] != target:
        pytest.skip(f"a node pools the next finer level here, which {size} is not to {target}")
    return "down"


@pytest.mark.parametrize("case", cases("bifpn_node"))
def test_node(case: Case) -> None:
    args = case.args
    resample = [_resample(size, args["output_size"]) for size in args["sizes"]]
    module = BiFPNNode(args["in_chs"], args["fpn_channels"], resample)
    set_norm_eps(module, case.setup["_bn"]["eps"])
    load(module, case.state, _node_names("", "", len(resample)))
    maps = [case.inputs[f"x{index}"] for index in range(len(resample))]
    with torch.no_grad():
        case.assert_close(module.combine(maps), "combined")
        case.assert_close(module(maps), "y")


@pytest.mark.parametrize("case", cases("bifpn_layer3"))
def test_layer(case: Case) -> None:
    levels = sorted(case.inputs)
    strides = [2 ** int(level[1:]) for level in levels]
    module = BiFPNLayer(case.args["fpn_channels"], strides)
    set_norm_eps(module, case.setup["_bn"]["eps"])
    places = [f"top_down.stride{stride}." for stride in reversed(strides[:-1])]
    places += [f"bottom_up.stride{stride}." for stride in strides[1:]]
    names: dict[str, str] = {}
    for index, place in enumerate(places):
        names |= _node_names(f"fnode.{index}.", place, 3)
    load(module, case.state, names)
    outputs: list[Tensor] = run(module, [case.inputs[level] for level in levels])  # type: ignore[arg-type,assignment]
    for level, output in zip(levels, outputs):
        case.assert_close(output, level)
