"""Parts export inside a whole model: one of every slot in two models, and each by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from detrofit.config.models import build
from detrofit.deployment.onnx import ExportOptions
from detrofit.deployment.part_check import TOLERANCE
from detrofit.model.detector import RTDETR
from detrofit.parts.registry import all_parts
from detrofit.parts.trials import usual_retrofit
from tests.deployment.models import CLASSES, FEW, SIZE, draw_model
from tests.deployment.test_onnx import _largest_difference

LOSSES = ("loss.", "matcher.")
ALL_SLOTS = {
    "blocks and necks": {
        "backbone.stem": "spd",
        "backbone.stage3.block": "fasternet-block",
        "backbone.stage4.conv": "pconv",
        "backbone.stage4.insert": "ffn",
        "backbone.stage4.downsample": "lae",
        "backbone.stage4.attention": "coordinate",
        "encoder.attention": "caa",
        "encoder.context": "sppf",
        "encoder.fusion_block": "repncspelan4",
        "encoder.downsample": "spd",
    },
    "backbone and fusion": {"backbone": "starnet", "encoder.attention": "mqa", "encoder.fusion": "bifpn"},
}
USUAL = {part.name: usual_retrofit(part) for part in all_parts() if not part.fits[0].pattern.startswith(LOSSES)}


def _model(retrofit: dict[str, Any]) -> RTDETR:
    """A model with its initial values, in whose decoder others are drawn so that no scores tie."""
    model = build("rtdetr-n", retrofit, num_classes=len(CLASSES), settings=FEW).eval()
    drawn = draw_model("rtdetr-n", retrofit).state_dict()
    decoder = {name: value for name, value in drawn.items() if name.startswith("decoder.")}
    model.load_state_dict({**model.state_dict(), **decoder})
    return model


def _check_exported(retrofit: dict[str, Any], file: Path) -> None:
    box, score = _largest_difference(_model(retrofit), file, ExportOptions())
    assert box < TOLERANCE * max(SIZE) and score < TOLERANCE


@pytest.mark.parametrize("name", ALL_SLOTS)
def test_one_of_every_slot(name: str, tmp_path: Path) -> None:
    _check_exported(ALL_SLOTS[name], tmp_path / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("name", USUAL)
def test_every_part(name: str, tmp_path: Path) -> None:
    _check_exported(USUAL[name], tmp_path / "model.onnx")
