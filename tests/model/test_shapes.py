"""Parts that break the contract of their slot are named before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from detrofit import DetrofitError
from detrofit.config.models import frame_and_choices, model_names
from detrofit.model.build import assemble
from detrofit.model.shapes import check_shapes
from detrofit.parts.registry import load_plugins

PLUGIN = '''
from torch import Tensor, nn
from detrofit import part
from detrofit.parts.slots import STAGE_BLOCK

@part("{name}", fits=[STAGE_BLOCK], paper="none", can_stride=True, can_widen=True)
class Block(nn.Module):
    """A block of one convolution."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, {out}, 3, {stride}, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        {body}
'''


def check(folder: Path, name: str, *, out: str = "out_channels", stride: str = "stride", body: str) -> None:
    file = folder / f"{name}.py"
    file.write_text(PLUGIN.format(name=name, out=out, stride=stride, body=body))
    load_plugins([file])
    with torch.device("meta"):
        built = assemble(*frame_and_choices("rtdetr-n", {"backbone.stage4.block": name}), num_classes=2)
    check_shapes(*built, (64, 96))


@pytest.mark.parametrize(
    ("name", "fault", "words"),
    [
        ("narrow", {"body": "return self.conv(x)[:, :8]"}, "gives 1x8x2x3, and its slot needs 1x160x2x3"),
        ("still", {"stride": "1", "body": "return self.conv(x)"}, "gives 1x160x4x6, and its slot needs 1x160x2x3"),
        ("nothing", {"body": "return None"}, "gives no map, and its slot needs 1x160x2x3"),
        ("broken", {"body": "return x @ self.conv.bias"}, "fails: "),
        (
            "unbuilt",
            {"out": "out_channels / 2", "body": "return x"},
            "cannot be built for in_channels 80, out_channels",
        ),
    ],
)
def test_a_part_with_a_fault_is_one_line(tmp_path: Path, name: str, fault: dict[str, str], words: str) -> None:
    with pytest.raises(DetrofitError) as caught:
        check(tmp_path, name, **fault)
    line = str(caught.value)
    assert line.startswith(f"part '{name}' in slot backbone.stage4.block ") and words in line and "\n" not in line


def test_a_part_that_looks_at_values_is_not_judged_without_them(tmp_path: Path) -> None:
    check(tmp_path, "looking", body="return self.conv(x) if x.mean() > 0 else self.conv(-x)")


@pytest.mark.parametrize("name", model_names())
def test_stock_models_keep_every_contract_and_no_hook(name: str) -> None:
    with torch.device("meta"):
        model, filled = assemble(*frame_and_choices(name), num_classes=2)
    check_shapes(model, filled, (96, 64))
    assert not any(place.module._forward_hooks or place.module._forward_pre_hooks for place in filled)


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ("mean = std = (0.5, 0.5, 0.5)", "needs an attribute `channels` of 3 numbers"),
        (
            "mean = std = (0.5, 0.5, 0.5); channels = strides = (4, 8, 16)",
            "has maps of strides (4, 8, 16), not (8, 16, 32)",
        ),
    ],
)
def test_a_backbone_that_does_not_say_what_it_gives_is_one_line(tmp_path: Path, declared: str, words: str) -> None:
    name = f"backbone-{len(declared)}"
    file = tmp_path / "backbone.py"
    file.write_text(
        "from torch import nn\nfrom detrofit import part\nfrom detrofit.parts.slots import BACKBONE\n\n"
        f'@part("{name}", fits=[BACKBONE], paper="none")\nclass Backbone(nn.Module):\n    """None."""\n    {declared}\n'
        "    def __init__(self, strides):\n        super().__init__()\n"
    )
    load_plugins([file])
    with torch.device("meta"), pytest.raises(DetrofitError) as caught:
        assemble(*frame_and_choices("rtdetr-n", {"backbone": name}), num_classes=2)
    assert str(caught.value) == f"part '{name}' in slot backbone {words}"
