from __future__ import annotations

import pytest
import torch

from detrofit import DetrofitError, build
from detrofit.config.schema import TrainSettings
from detrofit.training.optimizer import freeze, freeze_norms, make_optimizer, set_learning_rate
from tests.training.test_plan import plan_of


@pytest.fixture
def model():
    with torch.device("meta"):
        return build("rtdetr-n", num_classes=3, seed=0)


def groups_by_name(model, **settings):
    optimizer = make_optimizer(model, TrainSettings(**settings), plan_of(100, "backbone", **{"train.lr": 1e-3}))
    groups = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    return {name: groups[id(parameter)] for name, parameter in model.named_parameters() if id(parameter) in groups}


def test_norms_and_biases_have_no_decay_and_the_backbone_its_own_rate(model):
    groups = groups_by_name(model)
    assert groups["backbone.stage1.block0.conv1.conv.weight"]["weight_decay"] == 1e-4
    assert groups["backbone.stage1.block0.conv1.norm.weight"]["weight_decay"] == 0
    assert groups["decoder.layer0.linear1.weight"]["weight_decay"] == 1e-4
    assert groups["decoder.layer0.linear1.bias"]["weight_decay"] == 0
    assert groups["decoder.query_selection.norm.weight"]["weight_decay"] == 0
    assert groups["backbone.stem.conv1.conv.weight"]["lr"] == pytest.approx(3e-4)
    assert groups["decoder.layer0.linear1.weight"]["lr"] == pytest.approx(1e-3)


def test_the_longest_address_sets_the_rate(model):
    groups = groups_by_name(model, lr_by_slot={"backbone.stage4": 1.0, "backbone.stage4.block1": 2.0})
    rates = {
        name: groups[f"backbone.{name}.conv1.conv.weight"]["lr"]
        for name in ("stage3.block0", "stage4.block0", "stage4.block1")
    }
    assert rates == pytest.approx({"stage3.block0": 3e-4, "stage4.block0": 1e-3, "stage4.block1": 2e-3})


def test_slots_are_named_as_a_retrofit_names_them(model):
    groups = groups_by_name(model, lr_by_slot={"backbone.stage4.block1": 3.0, "backbone.stage[3,4].block": 2.0})
    rates = {name: group["lr"] for name, group in groups.items() if name.endswith("conv1.conv.weight")}
    wanted = {"stage2.block1": 3e-4, "stage3.block0": 2e-3, "stage3.block1": 2e-3, "stage4.block1": 3e-3}
    assert {name: rates[f"backbone.{name}.conv1.conv.weight"] for name in wanted} == pytest.approx(wanted)
    freeze(model, ["encoder.fusion_block"])
    trained = groups_by_name(model)
    assert not any(name.startswith(("encoder.fusion.top_down.", "encoder.fusion.bottom_up.")) for name in trained)
    assert any(name.startswith("encoder.fusion.lateral.") for name in trained)
    assert len(freeze_norms(model, ["backbone.stage1.conv"])) == 2, "the second 3x3 of two blocks"


def test_the_schedule_scales_every_group(model):
    optimizer = make_optimizer(model, TrainSettings(), plan_of(100, "backbone", **{"train.lr": 1e-3}))
    set_learning_rate(optimizer, 0.5)
    assert sorted({group["lr"] for group in optimizer.param_groups}) == pytest.approx([1.5e-4, 5e-4])


def test_frozen_addresses_are_not_trained(model):
    freeze(model, ["backbone.stem", "backbone.stage1"])
    names = groups_by_name(model)
    assert not any(name.startswith(("backbone.stem.", "backbone.stage1.")) for name in names)
    assert any(name.startswith("backbone.stage2.") for name in names)


def test_frozen_norms_are_those_under_the_address(model):
    frozen = freeze_norms(model, ["backbone.stage1"])
    assert len(frozen) == 5, "two in each of two blocks, one in the projecting shortcut"
    assert not any(parameter.requires_grad for norm in frozen for parameter in norm.parameters())


@pytest.mark.parametrize("setting", ["freeze", "lr_by_slot", "frozen_norms"])
def test_an_address_of_nothing_is_refused(model, setting):
    use = {
        "freeze": lambda: freeze(model, ["backbone.stage7"]),
        "lr_by_slot": lambda: groups_by_name(model, lr_by_slot={"backbone.stage7": 1.0}),
        "frozen_norms": lambda: freeze_norms(model, ["backbone.stage7"]),
    }[setting]
    with pytest.raises(DetrofitError, match=rf"train\.{setting}: .*'backbone\.stage7'.*did you mean 'backbone\.stage"):
        use()
