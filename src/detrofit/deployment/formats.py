"""The formats that models ship in, how far each is proven, and how to get to those that are not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Tier = Literal["proven", "not run by us"]


@dataclass(frozen=True)
class ShippedFormat:
    """A format and a precision of it.

    Attributes:
        suffix: of its files.
        precision: that it computes in.
        tier: proven formats are run by this project's tests and get a parity record with every export; for the others
            there is no hardware or runtime here.
        evidence: what holds a proven one; a recipe for one that is not.
    """

    name: str
    suffix: str
    precision: str
    tier: Tier
    evidence: str


def _recipe(name: str, suffix: str, precision: str, command: str) -> ShippedFormat:
    return ShippedFormat(name, suffix, precision, "not run by us", command)


_ZOO = "tests/deployment/test_zoo_parity.py: every model of the zoo answers like torch"
_EXPORT = "tests/deployment/test_export.py"
FORMATS = (
    ShippedFormat("PyTorch", ".safetensors", "float32", "proven", "the model itself; tests/parity: published weights"),
    ShippedFormat("ONNX", ".onnx", "float32", "proven", _ZOO),
    ShippedFormat("ONNX", ".onnx", "half", "proven", f"{_EXPORT}: on a CPU, which computes it in float32"),
    ShippedFormat("ONNX", ".onnx", "int8", "proven", f"{_EXPORT}: QDQ, scored on val at each export"),
    ShippedFormat("OpenVINO", ".xml", "float32", "proven", _ZOO),
    ShippedFormat("OpenVINO", ".xml", "half", "proven", f"{_EXPORT}: on a CPU, bf16 where it has that"),
    ShippedFormat("OpenVINO", ".xml", "int8", "proven", f"{_EXPORT}: NNCF, scored on val at each export"),
    _recipe("TensorRT", ".engine", "float32", "trtexec --onnx=best.onnx --saveEngine=best.engine"),
    _recipe("Core ML", ".mlpackage", "float32", "coremltools.convert of a traced ExportedGraph, see docs/deploy.md"),
    _recipe("TFLite", ".tflite", "float32", "onnx2tf -i best.onnx, exported with --sampler gather"),
    _recipe("NCNN", ".param", "float32", "pnnx best.onnx, exported with --raw --sampler gather"),
)
