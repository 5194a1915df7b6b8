"""From a model to an ONNX file that describes itself."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from detrofit.deployment.graph import ExportedGraph
from detrofit.deployment.joined_maps import read_before_joining
from detrofit.deployment.map_reading import Sampler
from detrofit.errors import DetrofitError
from detrofit.files import atomic_write
from detrofit.model.costs import count_flops, count_parameters
from detrofit.model.detector import RTDETR
from detrofit.model.fuse import fuse
from detrofit.runtime.exported import KEY, ExportDescription, Precision
from detrofit.version import __version__
from detrofit.weights.model_file import ModelInfo

# Pinned together. The exporter that traces takes a second where the one built on torch.export takes ten or more, is
# the same in every torch that this package runs with, and writes these opsets itself, without a converter after it. 16
# is the first opset with GridSample, 17 the first with LayerNormalization; TensorRT was seen to get GridSample right up
# to 18 and wrong from 20 on.
OPSET, OPSETS = 17, (16, 17, 18)
EXPORTER = "torch.onnx tracing"
_ERRORS_ONLY, _SILENT = 3, 4


@dataclass(frozen=True)
class ExportOptions:
    """How a model is exported.

    Attributes:
        size: height and width in pixels, multiples of 32; None for the size that it was trained at.
        batch: pictures at a time; None for any number.
        raw: logits and boxes of all queries instead of detections.
        sampler: grid reads between cells with GridSample; gather does without that operator; None for what is faster
            in the runtime that the file is for.
        opset: of ONNX, one of `OPSETS`.
        precision: of backbone and encoder; the graph is written in float32 and then made smaller.
    """

    size: tuple[int, int] | None = None
    batch: int | None = 1
    raw: bool = False
    sampler: Sampler | None = None
    opset: int = OPSET
    precision: Precision = "float32"

    def check(self, size: tuple[int, int], multiple: int) -> None:
        """DetrofitError for what no model of that size multiple can be exported with."""
        if any(side < multiple or side % multiple for side in size):
            raise DetrofitError(f"the input size {size[0]},{size[1]} is no multiple of {multiple}")
        if self.batch is not None and self.batch < 1:
            raise DetrofitError(f"batch is {self.batch}; give 1 or more, or dynamic")
        if self.opset not in OPSETS:
            raise DetrofitError(f"opset {self.opset} is not proven; give one of {', '.join(map(str, OPSETS))}")


def write_onnx(target: Path, model: RTDETR, info: ModelInfo, options: ExportOptions) -> ExportDescription:
    """Export a model (unfused, on the CPU, in eval mode) to `target` in float32, whole or not at all.

    The file has standard operators only and carries the description that is returned. Raises DetrofitError for a size
    that the model does not take or a graph that cannot be standard.
    """
    size, sampler = options.size or info.input_size, options.sampler or "grid"
    options.check(size, model.size_multiple)
    graph = ExportedGraph(model, size, raw=options.raw, sampler=sampler).eval()
    description = describe_export(model, info, size, replace(options, sampler=sampler))
    with atomic_write(target) as temporary:
        _trace(temporary, graph, size, options)
        _fold_constants(temporary)
        _save_work(temporary)
        finish_onnx(temporary, description)
        if options.batch is None:
            _check_any_batch(temporary, size)
    return description


def describe_export(model: RTDETR, info: ModelInfo, size: tuple[int, int], options: ExportOptions) -> ExportDescription:
    """What the exported file will say about itself."""
    deployed = fuse(model).to("meta")
    return ExportDescription(
        detrofit=__version__,
        name=info.name,
        class_names=info.class_names,
        category_ids=info.category_ids,
        input_size=size,
        mean=tuple(model.mean.flatten().tolist()),
        std=tuple(model.std.flatten().tolist()),
        threshold=info.threshold,
        max_detections=model.frame.max_detections,
        batch=options.batch,
        outputs="raw" if options.raw else "detections",
        sampler=options.sampler,
        parameters=count_parameters(deployed),
        flops=count_flops(deployed, size),
        exporter={"name": EXPORTER, "torch": torch.__version__, "opset": options.opset},
        parts={address: str(choice["part"]) for address, choice in model.slots.items()},
    )


@torch.no_grad()
def _trace(file: Path, graph: ExportedGraph, size: tuple[int, int], options: ExportOptions) -> None:
    any_batch = {name: {0: "batch"} for name in ("images", *graph.output_names)}
    with warnings.catch_warnings():
        # That this exporter is the older one, and that sizes become constants, is what is wanted here.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            (torch.zeros(options.batch or 2, 3, *size),),
            file,
            dynamo=False,
            opset_version=options.opset,
            input_names=["images"],
            output_names=graph.output_names,
            dynamic_axes=any_batch if options.batch is None else None,
        )


def _fold_constants(file: Path) -> None:
    """Replace what does not depend on the pictures (anchors, position embedding, shapes) by its value, in place."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    # The basic level keeps to standard operators.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(file)
    onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])


def _save_work(file: Path) -> None:
    model = onnx.load(file)
    read_before_joining(model)
    onnx.save(model, file)


def finish_onnx(file: Path, description: ExportDescription) -> None:
    """Check the graph in `file`, and put the description into it; DetrofitError where it is not standard."""
    model = onnx.load(file)
    foreign = {node.domain for node in model.graph.node if node.domain not in ("", "ai.onnx")}
    if foreign:
        raise DetrofitError(f"the graph needs operators of {sorted(foreign)[0]}, which other runtimes do not have")
    _keep_standard_opset(model)
    onnx.helper.set_model_props(model, {KEY: description.model_dump_json()})
    model.producer_name, model.producer_version = "detrofit", __version__
    onnx.checker.check_model(model)
    onnx.save(model, file)


def _check_any_batch(file: Path, size: tuple[int, int]) -> None:
    """DetrofitError where tracing wrote the batch of its example into the graph, as it does for some code."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    session = onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        try:
            outputs = session.run(None, {"images": np.zeros((batch, 3, *size), np.float32)})
        except Exception:  # ONNX Runtime's errors have no common base of their own
            outputs = [np.empty(0)]
        if any(len(each) != batch for each in outputs):
            raise DetrofitError("this model's graph keeps one batch size; give --batch N")


def _keep_standard_opset(model: Any) -> None:
    """ONNX Runtime lists every domain that it knows; others would refuse the file for those that they do not."""
    standard = [opset for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
    del model.opset_import[:]
    model.opset_import.extend(standard)
