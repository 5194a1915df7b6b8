from __future__ import annotations

import pytest
import torch
from torch import nn

from detrofit import DetrofitError
from detrofit.parts.assembly import Assembly
from detrofit.parts.blocks.uib import ExtraDW
from detrofit.parts.downsamples.conv_s2 import StridedConv
from detrofit.parts.retrofit import parse_retrofit
from detrofit.parts.slots import BACKBONE


def backbone(retrofit: dict, **options) -> tuple[nn.Module, Assembly]:
    stock = {"backbone": {"part": "resnet-vd", "widths": [8, 16, 24, 32], **options}}
    assembly = Assembly(parse_retrofit(stock), parse_retrofit(retrofit))
    return assembly.filler().fill(BACKBONE, default="resnet-vd", strides=(8, 16, 32)), assembly


def test_a_swap_changes_its_place_and_nothing_else():
    changed, _ = backbone({"backbone.stage4.block": "extradw"})
    stock, _ = backbone({})
    assert isinstance(changed.stage4.block0, ExtraDW) and isinstance(changed.stage4.block1, ExtraDW)
    same = {name for name in stock.state_dict() if not name.startswith("stage4.")}
    assert same == {name for name in changed.state_dict() if not name.startswith("stage4.")}


def test_an_index_names_one_of_several_places():
    changed, assembly = backbone({"backbone.stage4.block1": {"part": "extradw", "expand": 2.0}})
    assert not isinstance(changed.stage4.block0, ExtraDW) and isinstance(changed.stage4.block1, ExtraDW)
    assembly.check_all_used()


def test_the_resolved_choices_rebuild_the_same_model():
    retrofit = {"backbone.stage3.conv": {"part": "ib", "at": {"which": "both"}}, "backbone.stage4.block1": "extradw"}
    changed, assembly = backbone(retrofit)
    again = Assembly(
        parse_retrofit(assembly.resolved()),
        {address: parse_retrofit(assembly.resolved())[address] for address in parse_retrofit(retrofit)},
    )
    rebuilt = again.filler().fill(BACKBONE, default="resnet-vd", strides=(8, 16, 32))
    shapes = {name: tensor.shape for name, tensor in changed.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in rebuilt.state_dict().items()}
    assert again.resolved() == assembly.resolved()


def test_where_a_part_cannot_stride_the_downsample_comes_before_it():
    changed, _ = backbone({"backbone.stage4.block": "ffn"})
    assert isinstance(changed.stage4.block0.entry, StridedConv)
    assert [tuple(level.shape[1:]) for level in changed(torch.zeros(1, 3, 72, 104))] == [
        (16, 9, 13), (24, 5, 7), (32, 3, 4),
    ]  # fmt: skip


def test_a_chosen_downsample_does_the_stride_of_a_swapped_block():
    changed, _ = backbone({"backbone.stage4.block": "extradw", "backbone.stage4.downsample": "conv-s2"})
    assert isinstance(changed.stage4.block0.entry, StridedConv)


@pytest.mark.parametrize(("slot", "own"), [("conv", False), ("insert", False), ("block", True)])
def test_a_parts_own_skip_is_off_where_the_host_has_one(slot, own):
    _, assembly = backbone({f"backbone.stage4.{slot}": "extradw"})
    place = next(
        place for place in assembly.filled if place.part.name == "extradw" and place.numbers["in_channels"] == 32
    )
    assert place.choice.options["residual"] is own
    assert place.module.residual is own


def test_the_vd_shortcut_stands_in_for_the_parts_own_skip():
    changed, _ = backbone({"backbone.stage4.block": {"part": "extradw", "at": {"shortcut": "vd"}}})
    assert changed.stage4.block1.block.residual is False
    assert changed(torch.randn(1, 3, 64, 64))[2].min() >= 0, "the host's ReLU comes last"


@pytest.mark.parametrize(
    ("retrofit", "message"),
    [
        ({"backbone.stage4.block": "aifi"}, "part 'aifi' does not fit slot backbone.stage4.block; these do: basic"),
        ({"backbone.stage4.block": {"part": "extradw", "expnd": 2}}, "unknown option 'expnd'; did you mean 'expand'"),
        (
            {"backbone.stage4.block": {"part": "extradw", "expand": 99}},
            "option 'expand' = 99: .* less than or equal to 8",
        ),
        ({"backbone.stage4.conv": {"part": "ib", "at": {"wich": "both"}}}, "'at': unknown option 'wich'"),
    ],
)
def test_a_bad_choice_names_slot_part_and_remedy(retrofit, message):
    with pytest.raises(DetrofitError, match=message):
        backbone(retrofit)


def test_a_removed_slot_names_the_part_that_removed_it():
    _, assembly = backbone({"backbone.stage4.block": "extradw", "backbone.stage4.conv": "ib"})
    _, stock = backbone({})
    with pytest.raises(DetrofitError, match=r"the part 'extradw' in backbone\.stage4\.block does not have it"):
        assembly.check_all_used(stock.filled)
