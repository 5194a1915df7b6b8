"""The named backbones in every size: channels, strides and parameters, without computing anything."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest
import torch

from detrofit import DetrofitError
from detrofit.parts.registry import get_part
from detrofit.parts.slots import BACKBONE
from detrofit.parts.trials import Place

ALL_STRIDES = (4, 8, 16, 32)

# Millions of parameters and channels at strides 8, 16, 32, from the papers' tables and their published code.
KNOWN = {
    ("mobilenetv4", "conv-small"): (1.137, (64, 96, 128)),
    ("mobilenetv4", "conv-medium"): (6.955, (80, 160, 256)),
    ("mobilenetv4", "conv-large"): (29.585, (96, 192, 512)),
    ("mobilenetv4", "hybrid-medium"): (8.315, (80, 160, 256)),
    ("mobilenetv4", "hybrid-large"): (34.759, (96, 192, 512)),
    ("efficientnet", "b0"): (3.60, (40, 112, 320)),
    ("efficientnet", "b1"): (6.10, (40, 112, 320)),
    ("efficientnet", "b3"): (10.10, (48, 136, 384)),
    ("starnet", "s1"): (2.68, (48, 96, 192)),
    ("starnet", "s2"): (3.43, (64, 128, 256)),
    ("starnet", "s3"): (5.49, (64, 128, 256)),
    ("starnet", "s4"): (7.23, (64, 128, 256)),
    ("fasternet", "t0"): (2.22, (80, 160, 320)),
    ("fasternet", "t1"): (5.66, (128, 256, 512)),
    ("fasternet", "t2"): (12.72, (192, 384, 768)),
    ("fasternet", "s"): (28.59, (256, 512, 1024)),
}
NAMES = ("mobilenetv4", "efficientnet", "starnet", "fasternet", "pkinet")
SIZES = [(name, size) for name in NAMES for size in get_args(get_type_hints(get_part(name).build.__init__)["size"])]


@pytest.mark.parametrize(("name", "size"), SIZES)
def test_sizes(name: str, size: str) -> None:
    place = Place(get_part(name), BACKBONE)
    with torch.device("meta"):
        net = place.filler({"size": size}).fill(BACKBONE, default=name, strides=ALL_STRIDES)
    assert net.strides == ALL_STRIDES
    assert len(net.channels) == len(ALL_STRIDES)
    if (name, size) in KNOWN:
        millions, channels = KNOWN[name, size]
        assert net.channels[1:] == channels
        assert sum(parameter.numel() for parameter in net.parameters()) / 1e6 == pytest.approx(millions, abs=0.006)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resnet10"}, "timm has no model 'resnet10'; did you mean"),
        ({"name": "vit_tiny_patch16_224"}, "has no map of stride 8; it has \\[16\\]"),
        ({"name": "vgg11", "drop_path": 0.1}, "'vgg11' cannot be built as a backbone: .*drop_path_rate"),
        ({"name": "resnet10t", "out_indices": (7, 8, 9)}, "'resnet10t' cannot be built as a backbone"),
        ({"name": "resnet10t", "out_indices": (1, 2, 3)}, "gives strides \\(4, 8, 16\\)"),
    ],
)
def test_what_timm_cannot_give_is_one_line(options: dict[str, object], message: str) -> None:
    place = Place(get_part("timm"), BACKBONE)
    with torch.device("meta"), pytest.raises(DetrofitError, match=message) as caught:
        place.filler(options).fill(BACKBONE, default="timm", strides=(8, 16, 32))
    assert "\n" not in str(caught.value)
