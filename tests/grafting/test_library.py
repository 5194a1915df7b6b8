from __future__ import annotations

import pytest
import torch

from detrofit import DetrofitError
from detrofit.grafting.library import find_slots, trained_student
from tests.distillation.tiny_models import images, tiny_model


@pytest.fixture(scope="module")
def teacher():
    return tiny_model()


def test_the_catalogue_fills_every_block_of_the_backbone_and_the_neck(teacher):
    slots = {slot.address: slot for slot in find_slots(teacher)}
    blocks = [f"backbone.stage{n}.block{i}" for n in (1, 2, 3, 4) for i in (0, 1)]
    fusion = [f"encoder.fusion_block{n}" for n in range(4)]
    convs = [f"backbone.stage{n}.conv" for n in (1, 2, 3, 4)]
    assert sorted(slots) == sorted([*blocks, *fusion, "encoder.downsample0", "encoder.downsample1", *convs])
    assert [candidate.name for candidate in slots["backbone.stage3.conv"].candidates] == ["pconv"]
    assert slots["backbone.stage3.conv"].overlaps(slots["backbone.stage3.block1"])
    names = [candidate.name for candidate in slots["backbone.stage3.block1"].candidates]
    assert len(names) == len(set(names)) >= 8
    assert {"none", "basic+width=0.5"} <= set(names)
    assert {name.split("+")[0] for name in names} >= {
        "extradw",
        "ib",
        "convnext-like",
        "ffn",
        "fasternet-block",
        "star",
    }
    assert slots["encoder.fusion_block1"].unit == "encoder.fusion.top_down.stride8"
    assert len({candidate.key for slot in slots.values() for candidate in slot.candidates}) == sum(
        len(slot.candidates) for slot in slots.values()
    )


@pytest.mark.parametrize("address", ["backbone.stage3.block0", "encoder.fusion_block2", "encoder.downsample1"])
def test_every_candidate_stands_in_the_units_place_with_its_shapes(teacher, address):
    (slot,) = find_slots(teacher, [address])
    x = images(0, 2)
    shapes = {}
    for candidate in [None, *slot.candidates]:
        student = trained_student(teacher, [candidate] if candidate else [], {})
        shape = []
        student.get_submodule(slot.unit).register_forward_hook(
            lambda module, given, output, shape=shape: shape.append((given[0].shape, output.shape))
        )
        with torch.no_grad():
            student(x)
        shapes[candidate.name if candidate else "keep"] = shape[0]
    assert len(set(shapes.values())) == 1, shapes


def test_whole_stages_and_their_blocks_exclude_each_other(teacher):
    stage, block, other = find_slots(teacher, ["backbone.stage4", "backbone.stage4.block0", "backbone.stage3.block0"])
    assert stage.unit == "backbone.stage4" and stage.overlaps(block) and block.overlaps(stage)
    assert not stage.overlaps(other)
    names = [candidate.name for candidate in stage.candidates]
    assert {"pconv", "extradw+expand=2.0", "extradw+expand=2.0+depth=1", "depth=1"} <= set(names)
    assert len(stage.candidates[0].swaps) == 2
    shallow = trained_student(teacher, [stage.candidates[names.index("depth=1")]], {})
    assert shallow.slots["backbone.stage4.block1"]["part"] == "none"
    assert shallow.slots["backbone.stage4.block"]["part"] == "basic"


def test_own_candidates_are_tried_where_they_fit(teacher):
    wanted = ["backbone.stage[3,4].block", "encoder.fusion_block0"]
    slots = find_slots(teacher, wanted, ["star", {"part": "csp-rep", "blocks": 2}])
    blocks = [f"backbone.stage{n}.block{i}" for n in (3, 4) for i in (0, 1)]
    assert [slot.address for slot in slots] == [*blocks, "encoder.fusion_block0"]
    assert all([candidate.name for candidate in slot.candidates] == ["star"] for slot in slots[:4])
    assert [candidate.name for candidate in slots[4].candidates] == ["csp-rep+blocks=2"]


def test_the_same_candidate_twice_is_tried_once_and_two_of_one_part_have_two_names(teacher):
    hosted = {"part": "star", "at": {"shortcut": "vd"}}
    (slot,) = find_slots(teacher, ["backbone.stage4.block1"], ["star", "star", hosted, {"part": "star"}])
    assert [candidate.name for candidate in slot.candidates] == ["star", "star+shortcut=vd"]


def test_a_candidate_that_fits_nowhere_is_told_and_not_dropped(teacher):
    wanted = ["backbone.stage4.block"]
    with pytest.raises(DetrofitError, match="'bifpn' fits none of the slots: part 'bifpn' does not fit slot"):
        find_slots(teacher, wanted, ["star", "bifpn"])
    with pytest.raises(DetrofitError, match=r"'starr' fits none of the slots: .*starr"):
        find_slots(teacher, wanted, ["star", "starr"])
    with pytest.raises(DetrofitError, match=r"fits none of the slots: .*expand"):
        find_slots(teacher, wanted, [{"part": "star", "expand": -3}])
    with pytest.raises(DetrofitError, match=r"'basic' fits none of the slots: backbone\.stage4\.block1 has it"):
        find_slots(teacher, wanted, ["basic"])
    with pytest.raises(DetrofitError, match="give a part's name or a mapping"):
        find_slots(teacher, wanted, [["star"]])


def test_a_slot_that_the_teacher_lacks_is_one_line(teacher):
    with pytest.raises(DetrofitError, match=r"m\.safetensors has no slot 'backbone.stage5.block'; did you mean"):
        find_slots(teacher, ["backbone.stage5.block"], source="m.safetensors")
    with pytest.raises(DetrofitError, match=r"no candidate fits encoder\.fusion_block0 of the model; give others"):
        find_slots(teacher, ["backbone.stage4.block1", "encoder.fusion_block0"], ["star"])
