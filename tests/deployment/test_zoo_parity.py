"""Every model of the zoo answers in ONNX Runtime and OpenVINO as in torch, on weights that do not tie in the top-k."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detrofit.config.models import model_names
from detrofit.deployment.onnx import ExportOptions, write_onnx
from detrofit.deployment.parity import differences, pair_detections
from detrofit.runtime.backends import open_backend
from detrofit.runtime.preprocess import to_batch
from tests.deployment.models import detections_of, draw_model, draw_pictures, model_info

SIZE = (96, 128)  # a rectangle, whose position embedding is scrambled as published
QUICK = ("rtdetr-n", "rtdetr-s")
NAMES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in model_names()]
BOX, SCORE = 1e-3 * max(SIZE), 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_both_runtimes_find_what_torch_finds(name: str, tmp_path: Path) -> None:
    model = draw_model(name, decoder_layers=_layers(name))
    files = [tmp_path / "model.onnx"]
    write_onnx(files[0], model, model_info(name), ExportOptions(SIZE, batch=None))
    if _has_openvino():
        from detrofit.deployment.openvino import write_openvino

        base, file = tmp_path / "base.onnx", tmp_path / "model.xml"
        write_onnx(base, model, model_info(name), ExportOptions(SIZE, batch=None, sampler="gather"))
        write_openvino(file, base)
        files.append(file)
    batch = to_batch(draw_pictures(2), SIZE)
    expected = detections_of(model, batch)
    for each in files:
        boxes, scores, labels = open_backend(each, "cpu", threads=1)(batch)
        boxes = boxes * np.array([SIZE[1], SIZE[0]] * 2, np.float32)
        for theirs, *ours in zip(expected, boxes, scores, labels):
            pairs = pair_detections(theirs, ours)
            assert len(pairs[0]) == len(ours[1]), f"{each.suffix}: a detection has no partner of its class"
            box, score = differences(theirs, ours, pairs)
            assert box.max() < BOX and score.max() < SCORE, each.suffix


def _layers(name: str) -> int:
    """Two decoder layers are enough to repeat one; R50-m runs fewer than it trains, and keeps all."""
    return 6 if "r50m" in name else 2


def _has_openvino() -> bool:
    try:
        import openvino  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True
