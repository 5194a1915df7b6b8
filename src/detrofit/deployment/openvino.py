"""From an ONNX file of ours to OpenVINO's .xml and .bin."""

from __future__ import annotations

from pathlib import Path

import openvino

from detrofit.deployment.calibration import Calibration
from detrofit.deployment.float32_operations import keep_in_float32
from detrofit.deployment.quantise import quantise_openvino
from detrofit.files import file_digest
from detrofit.runtime.exported import KEY, ExportDescription, Precision
from detrofit.runtime.onnx_backend import read_description
from detrofit.runtime.openvino_backend import openvino_core


def write_openvino(
    target: Path, onnx_file: Path, precision: Precision = "float32", calibration: Calibration | None = None
) -> ExportDescription:
    """Convert a float32 `onnx_file` to `target` (.xml, its weights beside it as .bin) with the same description.

    Args:
        precision: half stores the weights in 16 bits and has the file run in the device's half precision; int8 is
            quantised on `calibration`.

    The two files are written in place: the caller gives a folder that nobody reads yet.
    """
    description = read_description(onnx_file)
    exporter = {**description.exporter, "openvino": openvino.__version__}
    changes = {"exporter": exporter, "precision": precision}
    model = openvino_core().read_model(onnx_file)  # convert_model would split a path at its commas
    if calibration is not None:
        model, changes["quantisation"] = quantise_openvino(model, calibration)
    description = description.model_copy(update=changes)
    for _ in range(2):  # once to know the weights' digest, and once with it
        model.set_rt_info(description.model_dump_json(), [KEY, "description"])
        openvino.save_model(model, target, compress_to_fp16=precision == "half")
        description = description.model_copy(update={"weights": file_digest(target.with_suffix(".bin"))})
    keep_in_float32(target, model)
    return description
