"""Parameters and operations: the counting rule on modules that one can count by hand, and the slots of a model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from detrofit.config.models import build, frame_and_choices
from detrofit.model.build import assemble
from detrofit.model.costs import count_flops, count_parameters, slot_costs
from detrofit.model.detector import RTDETR
from detrofit.parts.assembly import Filled
from detrofit.parts.layers import ConvNorm

SIZE = (64, 96)


class Attention(nn.Module):
    """Scaled dot product of the pixels with themselves, after a 1x1 convolution to 4 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.projection(x).flatten(2).transpose(1, 2)
        return functional.scaled_dot_product_attention(tokens, tokens, tokens)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_two_operations_for_each_multiply_add(device: str) -> None:
    with torch.device(device):
        layer = ConvNorm(3, 8, 3, 2, activation="silu")
        depthwise = nn.Sequential(nn.Conv2d(3, 3, 5, padding=2, groups=3, bias=False), nn.BatchNorm2d(3))
    assert count_flops(layer, (10, 14)) == 2 * (5 * 7) * 8 * (3 * 9)
    assert count_flops(depthwise, (10, 14)) == 2 * (10 * 14) * 3 * 25
    assert count_parameters(layer) == 8 * 27 + 16


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_attention_counts_its_two_products(device: str) -> None:
    with torch.device(device):
        module = Attention()
    pixels = 6 * 5
    assert count_flops(module, (6, 5)) == 2 * pixels * 4 * 3 + 2 * (2 * pixels * pixels * 4)


def test_on_meta_as_on_the_cpu() -> None:
    with torch.device("meta"):
        without_memory = build("rtdetr-n", num_classes=3)
    assert count_flops(without_memory, SIZE) == count_flops(build("rtdetr-n", num_classes=3), SIZE)


def test_counting_leaves_the_model_as_it_was() -> None:
    model, filled = _assembled({})
    model.train()
    slot_costs(model, filled, SIZE)
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_slots_of_a_model() -> None:
    model, filled = _assembled({"backbone.stage4.block": "extradw", "encoder.context": "none"})
    costs = {cost.filled.address + str(cost.filled.index or ""): cost for cost in slot_costs(model, filled, SIZE)}
    backbone, block = costs["backbone"], costs["backbone.stage4.block1"]
    assert backbone.input_shape == (1, 3, *SIZE)
    assert backbone.output_shape == tuple(
        (1, channels, SIZE[0] // stride, SIZE[1] // stride)
        for channels, stride in zip(model.backbone.channels, (8, 16, 32))
    )
    assert block.filled.part.name == "extradw"
    assert block.input_shape == block.output_shape == (1, model.backbone.channels[-1], 2, 3)
    assert block.parameters == count_parameters(model.backbone.stage4.block1)
    assert 0 < block.flops < backbone.flops < count_flops(model, SIZE)
    assert costs["loss.box"].flops == costs["loss.box"].parameters == 0
    rooms = ("backbone", "encoder.attention", "encoder.fusion")
    assert sum(costs[room].flops for room in rooms) < count_flops(model, SIZE)


def test_a_larger_image_costs_more_in_proportion_where_all_is_convolution() -> None:
    with torch.device("meta"):
        layer = ConvNorm(3, 8, 3)
    assert count_flops(layer, (64, 64)) == 4 * count_flops(layer, (32, 32))


def _assembled(retrofit: dict[str, str]) -> tuple[RTDETR, list[Filled]]:
    with torch.device("meta"):
        return assemble(*frame_and_choices("rtdetr-n", retrofit), num_classes=3)
