"""INT8 after training: ranges are measured on pictures, the decoder and its heads stay in float.

Boxes are refined and chosen in the decoder, where eight bits are too few: quantised whole, models of this family were
seen to lose all their accuracy. Its projections of whole maps move no box, but take much of its time: OpenVINO has them
in INT8, too.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from rich.console import Console
from rich.progress import track

from detrofit.deployment.calibration import Calibration
from detrofit.deployment.decoder_scope import (
    MAP_PROJECTION,
    decoder_operations,
    onnx_operations,
    openvino_operations,
)
from detrofit.deployment.joined_maps import JOIN
from detrofit.deployment.onnx import finish_onnx
from detrofit.runtime.onnx_backend import read_description

FLOAT_PART = "decoder and heads"
EXCEPT_MAPS = "except projections of maps"
_ONNX_OPERATORS = ("Conv", "Gemm", "MatMul", "Add")  # Add: or every residual sum would go through float


def quantise_openvino(model: Any, calibration: Calibration) -> tuple[Any, dict[str, Any]]:
    """A float32 OpenVINO model as INT8, by NNCF in its form for transformers; and what its description says of it."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # tells of CUDA, which is not asked for
    import nncf

    nncf.set_log_level(logging.ERROR)
    operations = list(openvino_operations(model))
    decoder = decoder_operations(operations, model.inputs[0].get_node().get_friendly_name())
    in_float = [name for name in decoder if not MAP_PROJECTION.match(name)]
    in_float += [each.name for each in operations if each.name.endswith(JOIN)]  # runs as a part of the convolution then
    # Smoothing knows of no scope: it would scale all that the decoder reads, which costs time and brings nothing there.
    smoothing = nncf.AdvancedSmoothQuantParameters(matmul=-1)
    with redirect_stdout(sys.stderr):  # where its progress belongs
        smaller = nncf.quantize(
            model,
            nncf.Dataset(calibration),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(calibration),
            ignored_scope=nncf.IgnoredScope(names=in_float),
            advanced_parameters=nncf.AdvancedQuantizationParameters(smooth_quant_alphas=smoothing),
        )
    return smaller, _facts(calibration, f"nncf {nncf.__version__}", f"{FLOAT_PART}, {EXCEPT_MAPS}")


def quantise_onnx(target: Path, source: Path, calibration: Calibration) -> None:
    """Write the float32 ONNX file `source` of ours as INT8 to `target`, by ONNX Runtime, in standard operators
    (QuantizeLinear, DequantizeLinear)."""
    model = onnx.load(source)
    with _without_advice():
        quantize_static(
            source,
            target,
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_ONNX_OPERATORS),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=decoder_operations(onnx_operations(model.graph), model.graph.input[0].name),
        )
    facts = _facts(calibration, f"onnxruntime {onnxruntime.__version__}", FLOAT_PART)
    finish_onnx(target, read_description(source).model_copy(update={"precision": "int8", "quantisation": facts}))


def _facts(calibration: Calibration, tool: str, float_part: str) -> dict[str, Any]:
    pictures = len(calibration) * calibration.batch
    return {"tool": tool, "split": calibration.source, "pictures": pictures, "float": float_part}


@contextmanager
def _without_advice() -> Iterator[None]:
    """Without ONNX Runtime's advice to optimise the graph first, which was done."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


class _Reader(CalibrationDataReader):
    """A calibration in the form that ONNX Runtime asks for."""

    def __init__(self, calibration: Calibration) -> None:
        shown = track(calibration, "calibrating", len(calibration), console=Console(stderr=True))
        self.batches = ({"images": batch} for batch in shown)

    def get_next(self) -> dict[str, Any] | None:
        return next(self.batches, None)
