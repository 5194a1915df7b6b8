"""An ONNX file of ours without a network in it, made without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detrofit.runtime.exported import KEY, ExportDescription


def describe(**changes: object) -> ExportDescription:
    values = {
        "detrofit": "0.1.0",
        "name": "by-hand",
        "class_names": ("dark", "light"),
        "category_ids": (4, 2),
        "input_size": (32, 64),
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
        "threshold": 0.25,
        "max_detections": 5,
        "batch": 2,
        "outputs": "detections",
        "sampler": "grid",
        "exporter": {},
        "parts": {},
    }
    return ExportDescription(**{**values, **changes})  # type: ignore[arg-type]


def write_onnx_by_hand(file: Path, description: str | None) -> Path:
    """A graph for two pictures: one fixed box, whose score is the mean of the picture."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    helper, number = onnx.helper, onnx.numpy_helper
    box = np.array([[[16, 8, 48, 24]]] * 2, np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Reshape", ["mean", "shape"], ["scores"]),
        helper.make_node("Identity", ["box"], ["boxes"]),
        helper.make_node("Identity", ["label"], ["labels"]),
    ]
    constants = {"shape": np.array([2, 1]), "box": box, "label": np.ones((2, 1), np.int64)}
    graph = helper.make_graph(
        nodes,
        "by hand",
        [helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [2, 3, 32, 64])],
        [
            helper.make_tensor_value_info("boxes", onnx.TensorProto.FLOAT, [2, 1, 4]),
            helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [2, 1]),
            helper.make_tensor_value_info("labels", onnx.TensorProto.INT64, [2, 1]),
        ],
        [number.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if description is not None:
        helper.set_model_props(model, {KEY: description})
    onnx.save(model, file)
    return file
