from __future__ import annotations

import pytest
import torch

from detrofit.distillation.replaced import find_replaced
from detrofit.distillation.swap import with_swaps
from detrofit.model.places import places_of
from detrofit.parts.retrofit import parse_retrofit
from tests.distillation.tiny_models import SIZE, tiny_model

VD = {"part": "extradw", "at": {"shortcut": "vd"}}


@pytest.fixture(scope="module")
def teacher():
    return tiny_model()


@pytest.mark.parametrize(
    ("retrofit", "names"),
    [
        ({"backbone.stage4.block1": VD}, ["backbone.stage4.block1"]),
        ({"backbone.stage4.block0": "extradw"}, ["backbone.stage4.block0"]),
        ({"backbone.stage[3,4].block": VD}, [f"backbone.stage{n}.block{i}" for n in (3, 4) for i in (0, 1)]),
        ({"backbone.stage4.block0": "fasternet-block"}, ["backbone.stage4.block0"]),  # with a downsample before it
        ({"backbone.stage3.conv": "pconv"}, ["backbone.stage3.block0.conv2", "backbone.stage3.block1.conv2"]),
        ({"backbone.stage3.insert": "extradw"}, ["backbone.stage3.block0.insert", "backbone.stage3.block1.insert"]),
        ({"backbone.stage2.downsample": "spd"}, ["backbone.stage2.block0.conv1"]),
        ({"encoder.fusion_block1": {"part": "csp-rep", "blocks": 2}}, ["encoder.fusion.top_down.stride8"]),
        ({"encoder.fusion": "bifpn"}, ["encoder.fusion"]),
        ({"loss.box": "nwd"}, []),
        ({}, []),
    ],
)
def test_what_a_swap_replaces(teacher, retrofit, names):
    student = with_swaps(teacher, parse_retrofit(retrofit))
    found = find_replaced(teacher, student, SIZE)
    assert list(found.names) == names and not found.unmatched


def test_a_backbone_of_other_widths_has_nothing_to_imitate(teacher):
    backbone = {"backbone": {"part": "resnet-vd", "depth": 18, "widths": [16, 16, 16, 32]}}
    found = find_replaced(teacher, with_swaps(teacher, parse_retrofit(backbone)), SIZE)
    assert found.names == () and found.unmatched == ("backbone",)


def test_a_backbone_of_the_same_maps_is_imitated_as_a_whole(teacher):
    backbone = {"backbone": {"part": "resnet-vd", "depth": 34, "widths": [16, 16, 16, 16]}}
    assert find_replaced(teacher, with_swaps(teacher, parse_retrofit(backbone)), SIZE).names == ("backbone",)


def test_a_swap_keeps_the_rest_bit_for_bit(teacher):
    student = with_swaps(teacher, parse_retrofit({"backbone.stage4.block1": VD}), seed=5)
    ours, theirs = student.state_dict(), teacher.state_dict()
    outside = [name for name in theirs if not name.startswith("backbone.stage4.block1.")]
    assert outside and all(torch.equal(ours[name], theirs[name]) for name in outside)
    assert not student.training
    inside = [name for name in ours if name.startswith("backbone.stage4.block1.")]
    assert any("start" in name for name in inside)


def test_swaps_go_over_a_retrofit_and_take_parts_out_with_their_host():
    teacher = tiny_model({"backbone.stage4.conv": "pconv", "backbone.stage3.block1": "star"})
    student = with_swaps(teacher, parse_retrofit({"backbone.stage4.block0": VD, "backbone.stage4.block1": VD}))
    assert "backbone.stage4.conv" not in student.slots
    parts = {place.address: place.filled.choice.part for place in places_of(student)}
    assert parts["backbone.stage3.block1"] == "star" and parts["backbone.stage3.block0"] == "basic"
    assert parts["backbone.stage4.block0"] == parts["backbone.stage4.block1"] == "extradw"
    again = with_swaps(student, parse_retrofit({"backbone.stage3.block1": "basic"}))
    assert torch.equal(again.backbone.stage4.block1.block.start.conv.weight,
                       student.backbone.stage4.block1.block.start.conv.weight)  # fmt: skip
