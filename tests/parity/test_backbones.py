"""ResNet-vd, its blocks and HGNetv2 against the official implementations, through the name maps of `weights`."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, get_args

import pytest
from torch import Tensor, nn

from detrofit.parts.assembly import Assembly, SlotFiller
from detrofit.parts.backbones.hgnetv2 import HGNetV2, Size
from detrofit.parts.backbones.resnet_vd import ResNetVD
from detrofit.parts.blocks.residual import BasicBlock, Bottleneck
from detrofit.parts.layers import ConvNorm
from detrofit.parts.retrofit import PartChoice
from detrofit.weights.names import NameMap, with_batch_counts
from detrofit.weights.official import RESIDUAL_BLOCK, backbone_names

from .fixtures import Case, cases, procedural, renamed
from .naming import activation, run, skip_other_arguments

STRIDES = (4, 8, 16, 32)
# These freeze, or say where weights come from, and change no output.
FREEZING = ("freeze_at", "freeze_norm", "freeze_stem_only", "pretrained", "local_model_dir")
KINDS = {"BasicBlock": ("basic", BasicBlock, 1), "BottleNeck": ("bottleneck", Bottleneck, 4)}


@pytest.mark.parametrize("case", cases("presnet_tiny"))
def test_residual_block(case: Case) -> None:
    args = case.args
    if args["block"] not in KINDS:
        pytest.skip(f"there is no residual block like {args['block']} here")
    kind, block, expansion = KINDS[args["block"]]
    skip_other_arguments(args, ("block", "ch_in", "ch_out", "stride", "shortcut", "act", "variant"))
    _skip_strided_1x1(kind, args)
    module = block(
        _filler(),
        args["ch_in"],
        args["ch_out"] * expansion,
        args["stride"],
        not args["shortcut"],
        pooled_shortcut=args.get("variant", "b") == "d",
        activation=activation(args.get("act", "relu")),  # type: ignore[arg-type]
    )
    names = NameMap(RESIDUAL_BLOCK[kind], ())
    case.assert_close(run(_loaded(module, case.state, names), case.inputs["x"]), "y")


@pytest.mark.parametrize("case", cases("presnet_proc"))
def test_resnet_vd(case: Case) -> None:
    args = case.args
    skip_other_arguments(args, ("depth", "variant", "return_idx", "act", *FREEZING), num_stages=4)
    kind = "bottleneck" if args["depth"] >= 50 else "basic"
    variant, act = args.get("variant", "d"), activation(args.get("act", "relu"))
    _skip_strided_1x1(kind, args)
    choice = PartChoice(kind, {"pooled_shortcut": variant == "d", "activation": act})
    blocks = {f"backbone.stage{stage}.block": choice for stage in (1, 2, 3, 4)}
    slots = _filler({**blocks, "backbone.stem": PartChoice("deep-stem", {"activation": act})})
    backbone = ResNetVD(slots, _strides(args, [0, 1, 2, 3]), depth=args["depth"])
    if variant not in ("c", "d"):  # the stages are ours, the stem of these variants is not
        backbone.stem = nn.Sequential(
            OrderedDict(conv1=ConvNorm(3, 64, 7, 2, activation=act), pool=nn.MaxPool2d(3, 2, padding=1))
        )
    _check_backbone(case, backbone)


@pytest.mark.parametrize("case", cases("hgnetv2_proc"))
def test_hgnetv2(case: Case) -> None:
    skip_other_arguments(case.args, ("name", "return_idx", *FREEZING), use_lab=False)
    size = case.args["name"].lower()
    if size not in get_args(get_args(Size)[0]):
        pytest.skip(f"there is no HGNetv2-{case.args['name']} here")
    _check_backbone(case, HGNetV2(_filler(), _strides(case.args, [1, 2, 3]), size=size))


def _check_backbone(case: Case, backbone: nn.Module) -> None:
    image = procedural().tensor("input", case.setup["_x"], case.setup["_salt"])
    maps = run(_loaded(backbone, case.state, backbone_names(case.state)), image)
    assert len(maps) == len(case.outputs)
    for index, level in enumerate(maps):
        case.assert_close(level, f"c{index}")


def _loaded(module: nn.Module, state: dict[str, Tensor], names: NameMap) -> nn.Module:
    module.load_state_dict(with_batch_counts(renamed(state, names.ours)))
    return module.eval()


def _filler(choices: dict[str, PartChoice] | None = None) -> SlotFiller:
    return Assembly(choices or {}, {}).filler().at(stage=2)


def _strides(args: dict[str, Any], default: list[int]) -> list[int]:
    return [STRIDES[index] for index in args.get("return_idx", default)]


def _skip_strided_1x1(kind: str, args: dict[str, Any]) -> None:
    if args.get("variant") == "a" and kind == "bottleneck" and args.get("stride", 2) > 1:
        pytest.skip("bottlenecks stride in their 3x3 convolution here, not in the 1x1 before it (variant a)")
