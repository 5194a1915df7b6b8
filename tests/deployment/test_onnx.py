"""Every family of models exports, and ONNX Runtime agrees with torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from detrofit.deployment.onnx import OPSET, ExportOptions, write_onnx
from detrofit.deployment.parity import differences, pair_detections
from detrofit.errors import DetrofitError
from detrofit.model.detector import RTDETR
from detrofit.runtime.onnx_backend import OnnxBackend
from detrofit.runtime.preprocess import to_batch
from tests.deployment.models import SIZE, detections_of, draw_model, draw_pictures, model_info

FAMILIES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "nano": ("rtdetr-n", {}, {}),
    "extradw": ("rtdetr-n", {"backbone.stage[3,4].block": "extradw"}, {}),
    "discrete": ("rtdetr-n", {}, {"sampling": "discrete", "query_selection": "agnostic"}),
    "points": ("rtdetr-n", {}, {"points": [2, 4, 3], "query_selection": "one2many"}),
    "hgnetv2": ("rtdetr-n", {"backbone": "hgnetv2"}, {}),
    "timm": ("rtdetr-n", {"backbone": {"part": "timm:mobilenetv4_conv_small_035"}}, {}),
}


def _largest_difference(model: RTDETR, file: Path, options: ExportOptions) -> tuple[float, float]:
    """Of a corner, in pixels, and of a score, over all detections of drawn pictures; fails where one has no partner."""
    description = write_onnx(file, model, model_info("drawn"), options)
    backend = OnnxBackend(file)
    batch = to_batch(draw_pictures(2), description.input_size)
    boxes, scores, labels = backend(batch)
    boxes = boxes * np.array([*description.input_size[::-1]] * 2, np.float32)
    largest = [0.0, 0.0]
    for first, *second in zip(detections_of(model, batch), boxes, scores, labels):
        pairs = pair_detections(first, second)
        assert len(pairs[0]) == len(second[1]), "a detection of torch has no partner of its class in the file"
        largest = [max(each, float(new.max())) for each, new in zip(largest, differences(first, second, pairs))]
    return largest[0], largest[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_onnx_runtime_agrees_with_torch(family: str, tmp_path: Path) -> None:
    name, retrofit, settings = FAMILIES[family]
    model = draw_model(name, retrofit, **settings)
    box, score = _largest_difference(model, tmp_path / "model.onnx", ExportOptions())
    assert box < 1e-3 * max(SIZE) and score < 1e-3


@pytest.mark.parametrize(
    "options",
    [
        ExportOptions((96, 64), batch=2, raw=True),
        ExportOptions((64, 128), batch=None),
        ExportOptions(sampler="gather", batch=None, opset=16),
        ExportOptions(opset=18),
    ],
    ids=["raw-batch", "dynamic-wide", "gather-dynamic-16", "18"],
)
def test_options_change_the_form_but_not_the_answer(options: ExportOptions, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    box, score = _largest_difference(draw_model("rtdetr-n"), file, options)
    assert box < 1e-3 * max(SIZE) and score < 1e-3
    written = onnx.load(file)
    operators = {node.op_type for node in written.graph.node}
    assert ("GridSample" in operators) == (options.sampler != "gather")
    assert written.opset_import[0].version == options.opset
    assert not operators & {"Sin", "Cos", "ConstantOfShape"}, "anchors and position embedding are baked in"


def test_the_file_is_standard_and_describes_itself(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    description = write_onnx(file, draw_model("rtdetr-n"), model_info("rtdetr-n"), ExportOptions((96, 64)))
    model = onnx.load(file)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", OPSET)]
    shape = [each.dim_value for each in model.graph.input[0].type.tensor_type.shape.dim]
    assert shape == [1, 3, 96, 64]
    assert OnnxBackend(file).description == description
    assert description.class_names == ("cat", "dog", "owl") and description.category_ids == (1, 5, 9)
    assert description.parts["backbone"] == "resnet-vd"


def test_nothing_stays_of_a_failed_export(tmp_path: Path) -> None:
    with pytest.raises(DetrofitError, match="opset 21 is not proven; give one of 16, 17, 18"):
        write_onnx(tmp_path / "model.onnx", draw_model("rtdetr-n"), model_info("rtdetr-n"), ExportOptions(opset=21))
    with pytest.raises(DetrofitError, match="multiple of 32"):
        write_onnx(tmp_path / "model.onnx", draw_model("rtdetr-n"), model_info("rtdetr-n"), ExportOptions((50, 64)))
    assert not list(tmp_path.iterdir())
