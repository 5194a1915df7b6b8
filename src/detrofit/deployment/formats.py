"""The formats that models ship in, and what is known of each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ShippedFormat:
    """A format; `proven` says whether this project runs it in its tests, `evidence` what is known of it."""

    name: str
    suffix: str
    proven: bool
    evidence: str


_RECIPE = "recipe from the .onnx file in docs/deploy.md"
FORMATS = (
    ShippedFormat("PyTorch", ".safetensors", True, "the model itself; parity with published weights is tested"),
    ShippedFormat("ONNX", ".onnx", True, "tests/deployment runs every model family; each export has a parity record"),
    ShippedFormat("OpenVINO", ".xml", True, "float32, CPU: tests run the nano model; exports have a parity record"),
    ShippedFormat("TensorRT", ".engine", False, _RECIPE),
    ShippedFormat("Core ML", ".mlpackage", False, _RECIPE),
    ShippedFormat("TFLite", ".tflite", False, _RECIPE),
    ShippedFormat("NCNN", ".param", False, _RECIPE),
)
