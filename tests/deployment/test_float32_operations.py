"""In half precision positions stay exact: what computes them is marked, and no layer that does the work is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from detrofit.deployment.export import write_exported
from detrofit.deployment.map_reading import Sampler
from detrofit.deployment.onnx import ExportOptions

openvino = pytest.importorskip("openvino")


def marked(file: Path) -> dict[str, Any]:
    """The operations that are asked to stay in float32, by name; the key's name has changed between versions."""
    operations = openvino.Core().read_model(file).get_ordered_ops()
    kept = [each for each in operations if any("precis" in key.lower() for key in each.get_rt_info())]
    return {each.get_friendly_name(): each for each in kept}


@pytest.mark.parametrize("sampler", get_args(Sampler))
def test_the_encoders_attention_and_positions_are_marked_and_no_values(
    sampler: Sampler, model_file: Path, tmp_path: Path
) -> None:
    options = ExportOptions(sampler=sampler)
    found = marked(write_exported(tmp_path / "a.xml", model_file, "openvino", options).file)
    assert any(name.startswith("/model/encoder/attention/") for name in found)
    decoder = {name: each.get_type_name() for name, each in found.items() if name.startswith("/model/decoder/")}
    assert not set(decoder.values()) & {"MatMul", "Convolution", "GridSample", "TopK", "Softmax"}
    locations = [name for name, kind in decoder.items() if "/cross_attention/Add" in name]
    assert {name.split("/")[3] for name in locations} == {"layer0", "layer1"}, "centres plus offsets, of each layer"
    if sampler == "gather":
        assert len([kind for kind in decoder.values() if kind == "Floor"]) == 2 * 2, "x and y of each layer"


@pytest.mark.skipif(
    "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"), reason="no bf16 here"
)
def test_half_precision_takes_no_position_through_sixteen_bits(model_file: Path, tmp_path: Path) -> None:
    file = write_exported(tmp_path / "a.xml", model_file, "openvino", ExportOptions(sampler="gather")).file
    compiled = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    facts = [each.get_rt_info() for each in compiled.get_runtime_model().get_ordered_ops()]
    floors = [each for each in facts if "/cross_attention/Floor" in each["originalLayersNames"].astype(str)]
    types = {each["outputPrecisions"].astype(str) for each in floors}
    assert types == {"f32"}
