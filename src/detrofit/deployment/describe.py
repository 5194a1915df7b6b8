"""What a model file of any format says about itself, without building the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors

from detrofit.errors import DetrofitError
from detrofit.runtime.exported import KEY


def describe(file: Path) -> dict[str, Any]:
    """The facts inside a .safetensors, .onnx or .xml file, by name; DetrofitError if it is none of ours."""
    readers = {".safetensors": _safetensors, ".onnx": _onnx, ".xml": _openvino}
    if file.suffix.lower() not in readers:
        raise DetrofitError(f"'{file}' is no model file; known are {', '.join(readers)}")
    if not file.is_file():
        raise DetrofitError(f"no model file at '{file}'; check the path")
    return {"file": str(file), "megabytes": round(size_of(file) / 1e6, 2), **readers[file.suffix.lower()](file)}


def size_of(file: Path) -> int:
    """Bytes of a model file, with the weights beside it if it keeps them there."""
    weights = file.with_suffix(".bin")
    return file.stat().st_size + (weights.stat().st_size if file.suffix.lower() == ".xml" and weights.exists() else 0)


def _safetensors(file: Path) -> dict[str, Any]:
    try:
        with safetensors.safe_open(file, framework="np") as opened:
            content = json.loads((opened.metadata() or {})[KEY])
            info = content.pop("info")
            model = content.pop("model")
            parts = {address: choice["part"] for address, choice in model["slots"].items()}
            normalisation = content.pop("normalisation")
            facts = {**content, **info, **normalisation, "resize": "stretch"}
            return {**facts, "max_detections": model["frame"]["max_detections"], "parts": parts}
    except (OSError, safetensors.SafetensorError, ValueError, KeyError, TypeError, AttributeError):
        raise DetrofitError(f"{file} is damaged, or no model file of ours") from None


def _onnx(file: Path) -> dict[str, Any]:
    from detrofit.runtime.onnx_backend import read_description

    return read_description(file).model_dump(mode="json")


def _openvino(file: Path) -> dict[str, Any]:
    from detrofit.runtime.openvino_backend import read_description

    return read_description(file).model_dump(mode="json")
