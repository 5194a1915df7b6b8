"""The deploy form: the same outputs up to rounding, fewer modules, the original untouched."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detrofit.config.models import build
from detrofit.model.detector import RTDETR
from detrofit.model.fuse import fuse, halve
from detrofit.parts.layers import ConvNorm
from tests.parity.fixtures import rows_by_index

TOLERANCE = 1e-4
VARIANTS: dict[str, dict[str, Any]] = {
    "stock": {},
    "extradw": {
        "backbone.stage4.block": "extradw",
        "backbone.stage3.conv": {"part": "extradw", "at": {"which": "both"}},
    },
    "hosted": {"backbone.stage4.block": {"part": "ib", "layer_scale": 0.1, "at": {"shortcut": "vd"}}},
    "mqa": {"encoder.attention": "mqa", "backbone.stage4.attention": "mqa"},
    "hgnetv2": {"backbone": "hgnetv2"},
}
TIMM = ["tf_efficientnet_lite0", "mobilenetv4_conv_small", "starnet_s1", "fasternet_t0", "resnet18", "repvgg_a0"]
IMAGES = torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(3))


def with_statistics(model: RTDETR) -> RTDETR:
    """The model in eval mode with norms that change what passes through them."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5, generator=generator)  # type: ignore[union-attr]
            module.weight.data.uniform_(0.7, 1.3, generator=generator)
            module.bias.data.normal_(0, 0.1, generator=generator)
    return model.eval()


@torch.no_grad()
def check_equal(model: RTDETR, fused: RTDETR) -> None:
    """Fail unless both give the same maps and predictions, maps relative to their largest value."""
    maps = [detector.encoder(detector.backbone(IMAGES)) for detector in (model, fused)]
    for given, wanted in zip(*maps):
        scale = wanted.abs().max()
        assert scale > 1e-3
        assert (given - wanted).abs().max() / scale < TOLERANCE
    before, after = model(IMAGES), fused(IMAGES)
    assert torch.equal(before.selected.sort().values, after.selected.sort().values)
    for given, wanted in zip(after.prediction, before.prediction):
        difference = rows_by_index(given, after.selected) - rows_by_index(wanted, before.selected)
        assert difference.abs().max() < TOLERANCE * max(1.0, wanted.abs().max().item())


def norms(module: nn.Module) -> int:
    return sum(isinstance(child, nn.BatchNorm2d) for child in module.modules())


@pytest.mark.parametrize("variant", VARIANTS)
def test_same_outputs(variant: str) -> None:
    model = with_statistics(build("rtdetr-n", VARIANTS[variant], num_classes=3))
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fused = fuse(model)
    check_equal(model, fused)
    assert norms(model.encoder.fusion) > 0
    assert norms(fused.encoder.fusion) == 0
    assert not any(isinstance(module, ConvNorm) and norms(module) for module in fused.modules())
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", TIMM)
def test_same_outputs_with_a_timm_backbone(name: str) -> None:
    model = with_statistics(build("rtdetr-n", {"backbone": f"timm:{name}"}, num_classes=3))
    fused = fuse(model)
    check_equal(model, fused)
    assert norms(model.backbone) > 10
    assert norms(fused) == 0


def test_fusing_twice_changes_nothing_more() -> None:
    fused = fuse(with_statistics(build("rtdetr-n", num_classes=3)))
    again = fuse(fused)
    assert fused.state_dict().keys() == again.state_dict().keys()
    check_equal(fused, again)


def test_a_parent_merges_its_branches_before_its_children_are_asked() -> None:
    asked: list[str] = []

    class Child(nn.Identity):
        def fuse(self) -> None:
            asked.append("child")

    class Parent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kept, self.merged = Child(), Child()

        def fuse(self) -> None:
            asked.append("parent")
            del self.merged

        def forward(self, x: Tensor) -> Tensor:
            return x

    fuse(nn.Sequential(Parent()))
    assert asked == ["parent", "child"]


@torch.inference_mode()
def test_weights_held_in_half_precision_give_what_autocast_gives() -> None:
    model = fuse(build("rtdetr-n", num_classes=3))
    image = torch.rand(1, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        expected = model(image).prediction
        halved = halve(model, torch.bfloat16)(image).prediction
    assert model.backbone.stem.conv1.conv.weight.dtype == torch.bfloat16
    for ours, theirs in zip(halved, expected):
        assert torch.equal(ours, theirs)
