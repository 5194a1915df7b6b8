from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import nn

from detrofit import DetrofitError, build
from detrofit.cli.app import main
from detrofit.explanation.features import feature_map, receptive_field, slot_output, square_side
from detrofit.model.places import names_at


def depthwise(kernel: int, layers: int = 3) -> nn.Sequential:
    """A stage of depthwise convolutions with weights that are all alike, so that the field is known."""
    convs = [nn.Conv2d(3, 3, kernel, padding=kernel // 2, groups=3, bias=False) for _ in range(layers)]
    for conv in convs:
        nn.init.constant_(conv.weight, 1 / kernel**2)
    return nn.Sequential(nn.Sequential(*convs))


def pictures(count: int = 2, size: int = 41) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(3, size, size, generator=generator) for _ in range(count)]


def test_the_field_of_known_convolutions():
    field = receptive_field(depthwise(3), "0", pictures())
    reached = np.argwhere(field.contribution > 0)
    assert [*reached.min(0), *reached.max(0)] == [17, 17, 23, 23], "7 x 7 around the middle"
    assert field.contribution.sum() == pytest.approx(1) and field.centre == (20, 20)
    kernel = np.ones(3) / 3
    line = np.convolve(np.convolve(kernel, kernel), kernel)
    held = [np.outer(line, line)[3 - k : 4 + k, 3 - k : 4 + k].sum() for k in range(4)]
    assert field.side == 2 * next(k for k in range(4) if held[k] >= 0.5) + 1
    assert field.side95 == 2 * next(k for k in range(4) if held[k] >= 0.95) + 1


def test_five_by_five_sees_farther_than_three_by_three():
    small, large = (receptive_field(depthwise(kernel), "0", pictures()) for kernel in (3, 5))
    assert large.side > small.side and large.side95 > small.side95


@pytest.fixture(scope="module")
def model():
    return build("rtdetr-n", num_classes=2, settings={"num_queries": 10}).eval()


def test_extradw_with_larger_kernels_enlarges_its_stage(model):
    images = pictures(1, 96)
    fields = []
    for kernel in (3, 5):
        part = {"part": "extradw", "start_kernel": kernel, "middle_kernel": kernel}
        swapped = build("rtdetr-n", {"backbone.stage3.block": part}, num_classes=2, settings={"num_queries": 10}).eval()
        fields.append(receptive_field(swapped, "backbone.stage3", images))
    assert fields[1].side95 > fields[0].side95
    same = [receptive_field(each, "backbone.stage2", images).side95 for each in (model, swapped)]
    assert same[0] == same[1], "what lies before the swap sees as far as it did"


def test_maps_of_slots(model):
    image = pictures(1, 64)[0]
    assert slot_output(model, "backbone.stage4", image[None]).shape[2:] == (2, 2)
    shown = feature_map(model, "encoder.fusion", image)
    assert shown.min() == 0 and shown.max() == 1


def test_every_address_that_slots_prints_has_a_map(model, capsys):
    assert main(["slots", "rtdetr-n", "--imgsz", "64"]) == 0
    words = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()]
    printed = [word for word in words if re.fullmatch(r"(backbone|encoder)[.a-z0-9_]*", word)]
    assert {"backbone.stem", "backbone.stage4.downsample", "encoder.fusion_block0"} <= {*printed}
    assert all(names_at(model, address) for address in printed)
    image = pictures(1, 64)[0][None]
    for address in {re.sub(r"\d+", "", address): address for address in printed}.values():
        assert slot_output(model, address, image).ndim == 4, address
    last = slot_output(model, "encoder.downsample1", image)
    assert slot_output(model, "encoder.downsample", image).equal(last), "of several places the last"


@pytest.mark.parametrize(
    ("address", "line"),
    [("backbone.stag4", "nothing at 'backbone.stag4'.*stage4"), ("decoder.layer0", "no map comes out")],
)
def test_what_has_no_map_is_one_line(model, address, line):
    with pytest.raises(DetrofitError, match=line):
        slot_output(model, address, torch.rand(1, 3, 64, 64))


def test_the_square_of_a_point_is_one_pixel():
    spot = np.zeros((9, 9))
    spot[4, 4] = 1
    assert square_side(spot, 0.5) == 1
    assert square_side(np.ones((9, 9)), 1.0) == 9
