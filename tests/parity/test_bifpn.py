"""BiFPN's node and layer against efficientdet-pytorch's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from detrofit.parts.fusion.bifpn import BiFPNLayer, BiFPNNode, Resample

from .fixtures import Case, cases
from .naming import load, run, set_norm_eps, skip_other_arguments

# What the published networks have in place of the original's other choices.
PUBLISHED = {
    "weight_method": "fastattn", "downsample": "max", "upsample": "nearest", "pooling_type": "max", "pad_type": "",
    "separable_conv": True, "conv_bn_relu_pattern": False, "redundant_bias": False, "apply_resample_bn": True,
    "act_layer": "silu",
}  # fmt: skip
NORM_EPS = 1e-3


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
    if any(side < goal for side, goal in zip(size, target)):
        return "up"
    if [-(-side // 2) for side in size] != target:
        pytest.skip(f"a node pools the next finer level here, which {size} is not to {target}")
    return "down"


@pytest.mark.parametrize("case", cases("bifpn_node"))
def test_node(case: Case) -> None:
    args = case.args
    skip_other_arguments(args, ("in_chs", "sizes", "output_size", "fpn_channels"), **PUBLISHED)
    resample = [_resample(size, args["output_size"]) for size in args["sizes"]]
    if "same" not in resample:
        pytest.skip("a node has an input of its own level here")
    module = BiFPNNode(args["in_chs"], args["fpn_channels"], resample)
    _set_norm_eps(case, module)
    load(module, case.state, _node_names("", "", len(resample)))
    maps = [case.inputs[f"x{index}"] for index in range(len(resample))]
    with torch.no_grad():
        case.assert_close(module.combine(maps), "combined")
        case.assert_close(module(maps), "y")


@pytest.mark.parametrize("case", cases("bifpn_layer*"))
def test_layer(case: Case) -> None:
    skip_other_arguments(case.args, ("fpn_channels", "sizes", "min_level", "max_level"), **PUBLISHED)
    levels = sorted(case.inputs)
    if any(level.shape[1] != case.args["fpn_channels"] for level in case.inputs.values()):
        pytest.skip("a neck's maps have one width here before the first of these layers")
    strides = [2 ** int(level[1:]) for level in levels]
    module = BiFPNLayer(case.args["fpn_channels"], strides)
    _set_norm_eps(case, module)
    places = [f"top_down.stride{stride}." for stride in reversed(strides[:-1])]
    places += [f"bottom_up.stride{stride}." for stride in strides[1:]]
    names: dict[str, str] = {}
    for index, place in enumerate(places):
        names |= _node_names(f"fnode.{index}.", place, 3)
    load(module, case.state, names)
    outputs: list[Tensor] = run(module, [case.inputs[level] for level in levels])  # type: ignore[arg-type,assignment]
    for level, output in zip(levels, outputs):
        case.assert_close(output, level)


def _set_norm_eps(case: Case, module: BiFPNNode | BiFPNLayer) -> None:
    set_norm_eps(module, case.setup.get("_bn", {}).get("eps", NORM_EPS))
