"""Initial values: repeatable from the seed, and the same in every module that a swap does not touch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from detrofit.config.models import build

TIMM = {"backbone": "timm:resnet10t"}


def values(retrofit: dict[str, Any] | None = None, seed: int = 0, **settings: Any) -> dict[str, Tensor]:
    return build("rtdetr-n", retrofit, num_classes=3, seed=seed, settings=settings).state_dict()


def common(first: dict[str, Tensor], second: dict[str, Tensor]) -> set[str]:
    """Names that both have, in the same shape."""
    return {name for name in first.keys() & second.keys() if first[name].shape == second[name].shape}


def different(first: dict[str, Tensor], second: dict[str, Tensor]) -> list[str]:
    return [name for name in common(first, second) if not torch.equal(first[name], second[name])]


# What is swapped, and where the swapped modules are.
SWAPS = [
    ({"backbone.stage4.block": "extradw"}, ("backbone.stage4.",)),
    ({"backbone.stage3.conv": "ib"}, ("backbone.stage3.block0.conv2.", "backbone.stage3.block1.conv2.")),
    ({"backbone.stage3.insert": "uib"}, ()),
    ({"backbone.stage2.attention": "mqa"}, ()),
    ({"encoder.attention": "mqa"}, ("encoder.attention.",)),
    ({"encoder.fusion_block": {"part": "csp-rep", "blocks": 2, "expansion": 0.5}}, ()),
    ({"loss.box": "ciou"}, ()),
    (TIMM, ("backbone.", "encoder.input_projection.")),
]


@pytest.fixture(scope="module")
def stock() -> dict[str, Tensor]:
    return values()


@pytest.mark.parametrize(("retrofit", "places"), SWAPS, ids=[next(iter(swap)) for swap, _ in SWAPS])
def test_a_swap_leaves_all_other_modules_bit_identical(
    stock: dict[str, Tensor], retrofit: dict[str, Any], places: tuple[str, ...]
) -> None:
    swapped = values(retrofit)
    assert not different(stock, swapped)
    assert {name for name in stock if not name.startswith(places)} <= common(stock, swapped)


@pytest.mark.parametrize("retrofit", [{"encoder.fusion_block": "csp-rep", "encoder.attention": "none"}])
def test_a_swap_leaves_a_timm_backbone_bit_identical(retrofit: dict[str, Any]) -> None:
    plain, swapped = values(TIMM), values({**TIMM, **retrofit})
    inside = [name for name in plain if name.startswith("backbone.")]
    assert inside and set(inside) <= swapped.keys()
    assert not different(plain, swapped)


@pytest.mark.parametrize("retrofit", [{}, TIMM])
def test_values_come_from_the_seed_alone(retrofit: dict[str, Any]) -> None:
    torch.manual_seed(1)
    first = values(retrofit)
    torch.manual_seed(2)
    assert not different(first, values(retrofit))
    others = values(retrofit, seed=1)
    weights = [name for name in first if name.endswith("conv.weight")]
    assert weights and set(weights) <= set(different(first, others))


def test_modules_of_equal_shape_differ_from_each_other(stock: dict[str, Tensor]) -> None:
    first, second = (stock[f"backbone.stage2.block{block}.conv2.conv.weight"] for block in (0, 1))
    assert not torch.equal(first, second)


def test_every_value_is_finite(stock: dict[str, Tensor]) -> None:
    assert all(tensor.isfinite().all() for tensor in stock.values())


def test_decoder_starts_as_published() -> None:
    decoder = build("rtdetr-n", num_classes=80).decoder
    heads = [*decoder.score_head.values(), decoder.query_selection.score_head]
    prior = -torch.log(torch.tensor(99.0))
    assert all(torch.allclose(head.bias, prior) for head in heads)
    boxes = [*decoder.box_head.values(), decoder.query_selection.box_head]
    assert not any(tensor.any() for head in boxes for tensor in head.layers[-1].parameters())
    assert not decoder.layer0.cross_attention.attention_weights.weight.any()
