"""Half precision for ONNX files: float16 in backbone and encoder, float32 in the decoder."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from detrofit.deployment.decoder_scope import decoder_operations, onnx_operations
from detrofit.deployment.onnx import finish_onnx
from detrofit.runtime.onnx_backend import read_description


def halve_onnx(target: Path, source: Path) -> None:
    """Write the float32 ONNX file `source` of ours in half precision to `target`, inputs and outputs as they were.

    Half the file, and faster where the device computes in float16. Positions in the decoder need more than its eleven
    bits: a runtime that takes them in float16 is right on one device and wrong on the next.
    """
    model = onnx.load(source)
    scope = decoder_operations(onnx_operations(model.graph), model.graph.input[0].name)
    halved = convert_float_to_float16(model, keep_io_types=True, node_block_list=scope)
    OnnxModel.graph_topological_sort(halved.graph)  # the casts that were added stand at its end
    onnx.save(halved, target)
    finish_onnx(target, read_description(source).model_copy(update={"precision": "half"}))
