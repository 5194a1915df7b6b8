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
    assert sorted(slots) == sorted([*blocks, *fusion, "encoder.downsample0", "encoder.downsample1"])
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
    assert "pconv" in [candidate.name for candidate in stage.candidates]
    assert len(stage.candidates[0].swaps) == 2


def test_own_candidates_are_tried_where_they_fit(teacher):
    slots = find_slots(teacher, ["backbone.stage[3,4].block", "encoder.fusion_block0"], ["star", "bifpn"])
    assert [slot.address for slot in slots] == [f"backbone.stage{n}.block{i}" for n in (3, 4) for i in (0, 1)]
    assert all([candidate.name for candidate in slot.candidates] == ["star"] for slot in slots)


def test_a_slot_that_the_teacher_lacks_is_one_line(teacher):
    with pytest.raises(DetrofitError, match=r"m\.safetensors has no slot 'backbone.stage5.block'; did you mean"):
        find_slots(teacher, ["backbone.stage5.block"], source="m.safetensors")
    with pytest.raises(DetrofitError, match=r"no candidate fits encoder\.fusion_block0"):
        find_slots(teacher, ["encoder.fusion_block0"], ["star"])
