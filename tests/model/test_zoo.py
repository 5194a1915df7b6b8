"""The zoo against what was published: parameters to the last one, operations within 3 %."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch

from detrofit.config.models import frame_and_choices, model_names, stock_model
from detrofit.model.build import assemble
from detrofit.model.costs import count_flops, count_parameters
from detrofit.model.detector import RTDETR

# Parameters of backbone, encoder and decoder of the official training modules with 80 classes, published GFLOPs at 640.
PUBLISHED = {
    "rtdetr-r18": (11_199_968, 4_965_120, 4_019_376, 60),
    "rtdetr-r34": (21_308_128, 4_965_120, 5_168_420, 92),
    "rtdetr-r50m": (23_527_264, 5_653_248, 7_466_508, 100),
    "rtdetr-r50": (23_527_264, 11_950_848, 7_466_508, 136),
    "rtdetr-r101": (42_519_392, 26_577_536, 7_564_812, 259),
    "rtdetr-l": (13_553_376, 11_950_848, 7_466_508, 110),
    "rtdetr-x": (33_325_760, 26_577_536, 7_564_812, 234),
}
ROUGHLY = {"rtdetr-h": (123, 490)}  # whose millions of parameters were published, and GFLOPs
# What the files of our own small models say.
OURS = {"rtdetr-n": (3.1, 7.2), "rtdetr-s": (7.5, 20.6)}
STEM_AND_STAGES = {
    "rtdetr-r18": (28_768, 152_192, 525_568, 2_099_712, 8_393_728),
    "rtdetr-r50": (28_768, 215_808, 1_219_584, 7_098_368, 14_964_736),
}
# Trained, but not run at inference: the decoder layers after the third of R50-m.
UNUSED_LAYERS_OF_R50M = 3_447_132
QUICK = ("rtdetr-r18", "rtdetr-n")


def model(name: str) -> RTDETR:
    with torch.device("meta"):
        return assemble(*frame_and_choices(name), num_classes=80)[0]


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_official_ones(name: str) -> None:
    detector = model(name)
    rooms = tuple(count_parameters(room) for room in (detector.backbone, detector.encoder, detector.decoder))
    assert rooms == PUBLISHED[name][:3]
    assert count_parameters(detector) == sum(rooms)


@pytest.mark.parametrize("name", ROUGHLY)
def test_the_largest_costs_what_was_published_within_3_percent(name: str) -> None:
    millions, gigaflops = ROUGHLY[name]
    assert count_parameters(model(name)) / 1e6 == pytest.approx(millions, rel=0.03)
    assert count_flops(model(name), (640, 640)) / 1e9 == pytest.approx(gigaflops, rel=0.03)


@pytest.mark.parametrize("name", STEM_AND_STAGES)
def test_parameters_of_the_resnets_stages(name: str) -> None:
    backbone = model(name).backbone
    rooms = [backbone.stem, *(getattr(backbone, f"stage{stage}") for stage in (1, 2, 3, 4))]
    assert tuple(map(count_parameters, rooms)) == STEM_AND_STAGES[name]


def test_r50m_has_three_decoder_layers_that_inference_does_not_run() -> None:
    decoder = model("rtdetr-r50m").decoder
    unused = [
        module
        for layer in ("layer3", "layer4", "layer5")
        for module in (getattr(decoder, layer), decoder.score_head[layer], decoder.box_head[layer])
    ]
    assert sum(map(count_parameters, unused)) == UNUSED_LAYERS_OF_R50M
    assert decoder.eval_layers == 3


def _quick_or_slow(names: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", _quick_or_slow(PUBLISHED))
def test_operations_are_within_3_percent_of_the_published_ones(name: str) -> None:
    assert count_flops(model(name), (640, 640)) / 1e9 == pytest.approx(PUBLISHED[name][3], rel=0.03)


@pytest.mark.parametrize("name", _quick_or_slow(OURS))
def test_small_models_cost_what_their_files_say(name: str) -> None:
    millions, gigaflops = OURS[name]
    detector = model(name)
    assert count_parameters(detector) / 1e6 == pytest.approx(millions, abs=0.05)
    assert count_flops(detector, (640, 640)) / 1e9 == pytest.approx(gigaflops, abs=0.05)


def test_version_2_has_the_structure_of_version_1() -> None:
    versions = [name for name in model_names() if name.startswith("rtdetrv2-")]
    assert {name.replace("v2", "") for name in versions} == {*PUBLISHED, *ROUGHLY}
    for name in versions:
        stock, base = stock_model(name), stock_model(name.replace("v2", ""))
        assert (stock.frame, stock.slots) == (base.frame, base.slots)
