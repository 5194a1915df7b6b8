"""Runs .xml files (with their .bin) with OpenVINO."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any

import numpy as np
import openvino
from openvino.preprocess import PrePostProcessor

from detrofit.errors import DetrofitError
from detrofit.files import file_digest
from detrofit.runtime.exported import KEY, ExportDescription, ExportedBackend, parse_description

_CORE_LOCK = Lock()  # two threads that ask for the first time would both make one


class OpenVinoBackend(ExportedBackend):
    """A .xml file of ours, compiled for one picture after another.

    It computes in float32; or in the device's half precision, if there is one, where the file was exported for that, or
    is INT8 (then in what INT8 leaves in float), or `half` asks for it. Raises DetrofitError for files that are damaged,
    incomplete or none of ours, a device that is not there, or one without half precision.
    """

    def open(self, path: Path, device: str | None, half: bool | None, threads: int | None) -> ExportDescription:
        model = read_model(path)
        description = _description(path, model)
        self.device = (device or "cpu").lower()
        device = self.device.upper()
        core = openvino_core()
        try:
            self.precision = _precision(core, device, half, description)
            self.compiled = core.compile_model(_reads_pictures(model), device, _settings(self.precision, threads))
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise DetrofitError(f"{path} cannot be run by OpenVINO on '{device.lower()}': {reason}") from None
        self._idle: SimpleQueue[Any] = SimpleQueue()
        return description

    def graph(self) -> tuple[list[int | None], list[str]]:
        sides = self.compiled.inputs[0].get_partial_shape()
        batch, height, width, channels = (side.get_length() if side.is_static else None for side in sides)
        return [batch, channels, height, width], [each.get_any_name() for each in self.compiled.outputs]

    def compute(self, pictures: np.ndarray) -> list[np.ndarray]:
        # Each call has a request to itself, so that threads may share the backend; a request owns large buffers, so it
        # is used again.
        try:
            request = self._idle.get_nowait()
        except Empty:
            request = self.compiled.create_infer_request()
        results = request.infer([np.ascontiguousarray(pictures)], share_inputs=True)
        answers = [np.array(results[port]) for port in self.compiled.outputs]
        self._idle.put(request)
        return answers


def _reads_pictures(model: Any) -> Any:
    """A network for float32 `[B, 3, H, W]` in 0..1 that takes uint8 `[B, H, W, 3]` instead; of INT8 its first
    convolution reads them as they are."""
    steps = PrePostProcessor(model)
    images = steps.input()
    images.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    images.preprocess().convert_element_type(openvino.Type.f32).scale(255.0)
    images.model().set_layout(openvino.Layout("NCHW"))
    return steps.build()


def openvino_core() -> Any:
    """The one `openvino.Core` of this process.

    Each brings a stack for signals (OpenVINO 2026.4). Of two that live at once, the first to go leaves its own behind
    as freed memory, and the next signal, of a picture-loading process that ends for instance, ends this one.
    """
    with _CORE_LOCK:
        return _core()


@cache
def _core() -> Any:
    return openvino.Core()


def half_precision(device: str = "CPU") -> str | None:
    """The half precision that a device computes in natively, `bf16` or `f16`; None if it has none."""
    return _half_precision(openvino_core(), device)


def _half_precision(core: Any, device: str) -> str | None:
    capabilities = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    return next((name.lower() for name in ("BF16", "FP16") if name in capabilities), None)


def _precision(core: Any, device: str, half: bool | None, description: ExportDescription) -> str:
    # What INT8 leaves in float runs in half precision, too: the export scored the file that way.
    if half is False or (half is None and description.precision == "float32"):
        return "f32"
    found = _half_precision(core, device)
    if found is None and half:
        raise DetrofitError(f"'{device.lower()}' computes in no half precision of its own; leave out --half")
    return found or "f32"


def _settings(precision: str, threads: int | None) -> dict[str, Any]:
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    return settings if threads is None else {**settings, "INFERENCE_NUM_THREADS": threads}


def read_description(path: Path) -> ExportDescription:
    """What a .xml file of ours says about itself."""
    return _description(path, read_model(path))


def read_model(path: Path) -> Any:
    """The network in a .xml file and its .bin; DetrofitError if one is missing or damaged."""
    weights = path.with_suffix(".bin")
    if not weights.exists():
        raise DetrofitError(f"{path} needs its weights in {weights}, which is not there; keep both files together")
    try:
        return openvino_core().read_model(path, weights)
    except (RuntimeError, UnicodeDecodeError) as error:  # the latter while Python takes the words of the former
        reason = " ".join(str(error).split())[:200]
        raise DetrofitError(f"{path} cannot be opened by OpenVINO: {reason}") from None


def _description(path: Path, model: Any) -> ExportDescription:
    place = [KEY, "description"]
    found = parse_description(path, lambda: model.get_rt_info(place).astype(str) if model.has_rt_info(place) else None)
    weights = path.with_suffix(".bin")
    if found.weights != file_digest(weights):  # those of another export may fit, and give wrong answers
        raise DetrofitError(f"{weights} holds other weights than {path} was written with; keep both of one export")
    return found
