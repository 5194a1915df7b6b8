"""Parameters of universal inverted bottlenecks: of each form by itself, and of ResNet stages with them in place."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from detrofit.model.costs import count_parameters
from detrofit.parts.assembly import Assembly
from detrofit.parts.backbones.resnet_vd import ResNetVD, Stage
from detrofit.parts.registry import get_part
from detrofit.parts.retrofit import parse_retrofit

CHANNELS = (128, 256, 512, 1024, 2048)
KERNELS_5 = {"start_kernel": 5, "middle_kernel": 5}
# Part and options: parameters at each of CHANNELS, in and out alike.
FORMS: list[tuple[str, dict[str, Any], tuple[int, ...]]] = [
    ("conv3x3", {}, (147_712, 590_336, 2_360_320, 9_439_232, 37_752_832)),
    ("extradw", {"expand": 1.0}, (36_096, 137_728, 537_600, 2_123_776, 8_441_856)),
    ("extradw", {"expand": 2.0}, (70_528, 272_128, 1_068_544, 4_234_240, 16_857_088)),
    ("extradw", {"expand": 4.0}, (139_392, 540_928, 2_130_432, 8_455_168, 33_687_552)),
    ("extradw", {"expand": 4.0, **KERNELS_5}, (149_632, 561_408, 2_171_392, 8_537_088, 33_851_392)),
    ("ffn", {"expand": 1.0}, (33_280, 132_096, 526_336, 2_101_248, 8_396_800)),
    ("ffn", {"expand": 2.0}, (66_304, 263_680, 1_051_648, 4_200_448, 16_789_504)),
    ("ffn", {"expand": 4.0}, (132_352, 526_848, 2_102_272, 8_398_848, 33_574_912)),
    ("ib", {"expand": 4.0}, (137_984, 538_112, 2_124_800, 8_443_904, 33_665_024)),
    ("convnext-like", {"expand": 4.0}, (133_760, 529_664, 2_107_904, 8_410_112, 33_597_440)),
]

# Slot and `at`, depth and stage: parameters of the stage with ExtraDW for an expansion of 1, 2 and 4.
PLACES: list[tuple[str, dict[str, str], int, int, tuple[int, ...]]] = [
    ("block", {}, 18, 3, (190_464, 375_680, 746_112)),
    ("block", {"shortcut": "vd"}, 18, 3, (223_744, 408_960, 779_392)),
    ("conv", {"which": "second"}, 18, 3, (1_194_496, 1_463_296, 2_000_896)),
    ("conv", {"which": "both"}, 18, 3, (499_200, 953_216, 1_861_248)),
    ("block", {}, 18, 4, (741_376, 1_472_256, 2_934_016)),
    ("block", {"shortcut": "vd"}, 18, 4, (873_472, 1_604_352, 3_066_112)),
    ("conv", {"which": "second"}, 18, 4, (4_748_288, 5_810_176, 7_933_952)),
    ("conv", {"which": "both"}, 18, 4, (1_948_672, 3_741_440, 7_326_976)),
    ("block", {}, 50, 3, (11_419_648, 22_765_056, 45_455_872)),
    ("conv", {}, 50, 3, (4_382_720, 5_189_120, 6_801_920)),
    ("block", {}, 50, 4, (20_058_112, 40_047_616, 80_026_624)),
    ("conv", {}, 50, 4, (9_496_576, 11_089_408, 14_275_072)),
]
# Depth, stage: parameters with the block that circulating plug-ins insert (kernels 5 and 3, expansion 4).
INSERTIONS = [(18, 3, 3_189_760), (18, 4, 12_670_976), (50, 3, 10_368_512), (50, 4, 21_380_608)]


@pytest.mark.parametrize(("name", "options", "expected"), FORMS)
def test_parameters_of_each_form(name: str, options: dict[str, Any], expected: tuple[int, ...]) -> None:
    with torch.device("meta"):
        found = [count_parameters(get_part(name).build(channels, channels, **options)) for channels in CHANNELS]
    assert tuple(found) == expected


@pytest.mark.parametrize(("slot", "at", "depth", "number", "expected"), PLACES)
def test_parameters_in_each_place(
    slot: str, at: dict[str, str], depth: int, number: int, expected: tuple[int, ...]
) -> None:
    found = [
        count_parameters(stage(depth, number, slot, {"part": "extradw", "expand": expand, "at": at}))
        for expand in (1.0, 2.0, 4.0)
    ]
    assert tuple(found) == expected


@pytest.mark.parametrize(("depth", "number", "expected"), INSERTIONS)
def test_parameters_with_an_insertion(depth: int, number: int, expected: int) -> None:
    inserted = {"part": "extradw", "expand": 4.0, "start_kernel": 5}
    assert count_parameters(stage(depth, number, "insert", inserted)) == expected


def test_the_host_has_the_only_skip_in_its_convolution_and_around_its_block() -> None:
    for slot, at in (("conv", {"which": "both"}), ("insert", {}), ("block", {"shortcut": "vd"})):
        modules = stage(18, 3, slot, {"part": "extradw", "at": at}).modules()
        assert not any(getattr(module, "residual", False) for module in modules if module_is_uib(module))
    blocks = [module for module in stage(18, 3, "block", {"part": "extradw"}).modules() if module_is_uib(module)]
    assert [block.residual for block in blocks] == [False, True]  # the first one changes the shape


def test_a_form_that_cannot_stride_stands_behind_the_stages_downsample() -> None:
    first = stage(18, 3, "block", {"part": "ffn"}).block0
    assert first.entry.conv.stride == (2, 2) and first.entry.conv.kernel_size == (3, 3)
    assert first(torch.empty(1, 128, 9, 7, device="meta")).shape == (1, 256, 5, 4)


def module_is_uib(module: nn.Module) -> bool:
    return isinstance(module, get_part("uib").build)


def stage(depth: int, number: int, slot: str, choice: dict[str, Any]) -> Stage:
    retrofit = parse_retrofit({f"backbone.stage{number}.{slot}": choice})
    with torch.device("meta"):
        backbone = ResNetVD(Assembly({}, retrofit).filler(), depth=depth)  # type: ignore[arg-type]
    return getattr(backbone, f"stage{number}")
