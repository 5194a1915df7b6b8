"""ResNet-vd, its blocks and HGNetv2 against the official implementations, through the name maps of `weights`."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor, nn

from detrofit.parts.assembly import Assembly, SlotFiller
from detrofit.parts.backbones.hgnetv2 import HGNetV2
from detrofit.parts.backbones.resnet_vd import ResNetVD
from detrofit.parts.blocks.residual import BasicBlock, Bottleneck
from detrofit.parts.retrofit import PartChoice
from detrofit.weights.names import NameMap, with_batch_counts
from detrofit.weights.official import RESIDUAL_BLOCK, backbone_names

from .fixtures import Case, cases, procedural, renamed
from .naming import run

STRIDES = (4, 8, 16, 32)
KINDS = {"BasicBlock": ("basic", BasicBlock, 1), "BottleNeck": ("bottleneck", Bottleneck, 4)}


@pytest.mark.parametrize("case", cases("presnet_tiny"))
def test_residual_block(case: Case) -> None:
    args = case.args
    kind, block, expansion = KINDS[args["block"]]
    _skip_other_than_relu(args)
    if args["variant"] == "a" and kind == "bottleneck":
        pytest.skip("bottlenecks stride in their 3x3 convolution here, not in the 1x1 before it (variant a)")
    module = block(
        _filler(),
        args["ch_in"],
        args["ch_out"] * expansion,
        args["stride"],
        not args["shortcut"],
        pooled_shortcut=args["variant"] == "d",
    )
    names = NameMap(RESIDUAL_BLOCK[kind], ())
    case.assert_close(run(_loaded(module, case.state, names), case.inputs["x"]), "y")


@pytest.mark.parametrize("case", cases("presnet_proc"))
def test_resnet_vd(case: Case) -> None:
    args = case.args
    _skip_other_than_relu(args)
    if args["variant"] not in ("c", "d"):
        pytest.skip("this variant has a single 7x7 convolution as its stem")
    kind = "bottleneck" if args["depth"] >= 50 else "basic"
    choice = PartChoice(kind, {"pooled_shortcut": args["variant"] == "d"})
    slots = _filler({f"backbone.stage{stage}.block": choice for stage in (1, 2, 3, 4)})
    _check_backbone(case, ResNetVD(slots, _strides(args), depth=args["depth"]))


@pytest.mark.parametrize("case", cases("hgnetv2_proc"))
def test_hgnetv2(case: Case) -> None:
    if case.args["use_lab"]:
        pytest.skip("there are no learnable affine blocks here (use_lab)")
    _check_backbone(case, HGNetV2(_filler(), _strides(case.args), size=case.args["name"].lower()))


def _check_backbone(case: Case, backbone: nn.Module) -> None:
    image = procedural().tensor("input", case.setup["_x"], case.setup["_salt"])
    maps = run(_loaded(backbone, case.state, backbone_names(case.state)), image)
    assert len(maps) == len(case.outputs)
    for index, level in enumerate(maps):
        case.assert_close(level, f"c{index}")


def _loaded(module: nn.Module, state: dict[str, Tensor], names: NameMap) -> nn.Module:
    unknown = [name for name in state if names.ours(name) is None]
    assert not unknown, f"no place for the original weight {unknown[0]}"
    module.load_state_dict(with_batch_counts(renamed(state, [(name, names.ours(name)) for name in state])))
    return module.eval()


def _filler(choices: dict[str, PartChoice] | None = None) -> SlotFiller:
    return Assembly(choices or {}, {}).filler().at(stage=2)


def _strides(args: dict[str, Any]) -> list[int]:
    return [STRIDES[index] for index in args["return_idx"]]


def _skip_other_than_relu(args: dict[str, Any]) -> None:
    if args["act"] != "relu":
        pytest.skip(f"residual blocks have ReLU here, not {args['act']}")
