"""From an ONNX file of ours to OpenVINO's .xml and .bin."""

from __future__ import annotations

from pathlib import Path

import openvino

from detrofit.runtime.exported import KEY
from detrofit.runtime.onnx_backend import read_description


def write_openvino(target: Path, onnx_file: Path) -> None:
    """Convert `onnx_file` to `target` (.xml, its weights beside it as .bin), float32, with the same description.

    The two files are written in place: the caller gives a folder that nobody reads yet.
    """
    description = read_description(onnx_file)
    exporter = {**description.exporter, "openvino": openvino.__version__}
    model = openvino.convert_model(onnx_file)
    model.set_rt_info(description.model_copy(update={"exporter": exporter}).model_dump_json(), [KEY, "description"])
    openvino.save_model(model, target, compress_to_fp16=False)
