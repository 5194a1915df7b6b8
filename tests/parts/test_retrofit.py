from __future__ import annotations

import pytest

from detrofit import DetrofitError
from detrofit.parts.retrofit import PartChoice, expand_address, parse_choice, parse_retrofit, slot_of


def test_an_address_may_name_several_stages_and_places():
    assert expand_address("backbone.stage[3,4].block") == ["backbone.stage3.block", "backbone.stage4.block"]
    assert expand_address("backbone.stage[3, 4].block[0,1]") == [
        "backbone.stage3.block0",
        "backbone.stage3.block1",
        "backbone.stage4.block0",
        "backbone.stage4.block1",
    ]
    assert expand_address("encoder.fusion") == ["encoder.fusion"]
    with pytest.raises(DetrofitError, match="more addresses at once than any model has slots"):
        expand_address("backbone.stage" + "[1,1,1,1,1,1,1,1,1,1]" * 12)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("extradw", PartChoice("extradw")),
        ("timm:resnet18", PartChoice("timm", {"name": "resnet18"})),
        (None, PartChoice("none")),
        ({"part": "extradw", "expand": 2.0}, PartChoice("extradw", {"expand": 2.0})),
        ({"part": "giou", "at": {"weight": 1.0}}, PartChoice("giou", {}, {"weight": 1.0})),
        ({"part": "timm:resnet18", "drop_path": 0.1}, PartChoice("timm", {"name": "resnet18", "drop_path": 0.1})),
    ],
)
def test_a_choice_in_its_yaml_forms(value, expected):
    choice = parse_choice(value, "backbone")
    assert choice == expected
    assert parse_choice(choice.to_dict(), "backbone") == expected


@pytest.mark.parametrize("value", [3, ["extradw"], {"expand": 2.0}, {"part": 3}, {"part": "ib", "at": 3}])
def test_a_choice_of_another_form_is_refused_by_slot(value):
    with pytest.raises(DetrofitError, match=r"^slot backbone\.stage4\.block: "):
        parse_retrofit({"backbone.stage4.block": value})


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("backbone.stage4.blok", "did you mean 'backbone.stage4.block'"),
        ("encoder.fuison", "did you mean 'encoder.fusion'"),
        ("nonsense", "`detrofit slots MODEL` lists them"),
    ],
)
def test_an_unknown_address_names_the_nearest(address, hint):
    with pytest.raises(DetrofitError, match=hint):
        slot_of(address)


def test_a_choice_over_one_of_the_same_part_keeps_the_options_it_leaves_out():
    base = PartChoice("resnet-vd", {"depth": 18, "widths": [16, 40, 80, 160]})
    assert PartChoice("resnet-vd", {"depth": 34}).over(base).options == {"depth": 34, "widths": [16, 40, 80, 160]}
    assert PartChoice("hgnetv2").over(base) == PartChoice("hgnetv2")
