"""Runs .onnx files with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from detrofit.errors import DetrofitError
from detrofit.runtime.exported import KEY, ExportDescription, ExportedBackend, parse_description
from detrofit.runtime.preprocess import to_images

CUDA = "CUDAExecutionProvider"
_ERRORS_ONLY = 3


class OnnxBackend(ExportedBackend):
    """A .onnx file of ours, opened on `cpu` or `cuda` (default: CUDA where this ONNX Runtime has it).

    It computes in the precision of its graph. Raises DetrofitError for a file that is damaged or none of ours, a device
    that is not there, or another precision.
    """

    def open(self, path: Path, device: str | None, half: bool | None, threads: int | None) -> ExportDescription:
        self.session = open_session(path, device, threads)
        on_cuda = CUDA in self.session.get_providers()
        self.device = (device or "cuda") if on_cuda else "cpu"
        description = _description(path, self.session)
        if half is not None and half != (description.precision == "half"):
            raise DetrofitError(
                f"{path} computes in {description.precision}, as it was exported; "
                f"export it {'with' if half else 'without'} --half"
            )
        return description

    def graph(self) -> tuple[list[int | None], list[str]]:
        shape = [side if isinstance(side, int) else None for side in self.session.get_inputs()[0].shape]
        return shape, [each.name for each in self.session.get_outputs()]

    def compute(self, pictures: np.ndarray) -> list[np.ndarray]:
        outputs: list[np.ndarray] = self.session.run(None, {self.session.get_inputs()[0].name: to_images(pictures)})
        return outputs


def read_description(path: Path) -> ExportDescription:
    """What a .onnx file of ours says about itself."""
    return _description(path, open_session(path, "cpu"))


def open_session(path: Path, device: str | None, threads: int | None = None) -> Any:
    """The file in ONNX Runtime; DetrofitError if it cannot be read or the device is not there."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0  # 0: as many as there are cores
    options.log_severity_level = _ERRORS_ONLY
    providers = _providers(device)  # a mistake in the device is no damage of the file
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # ONNX Runtime's errors have no common base of their own
        reason = " ".join(str(error).split())[:200]
        raise DetrofitError(f"{path} cannot be opened by ONNX Runtime {onnxruntime.__version__}: {reason}") from None
    if (device or "").startswith("cuda") and CUDA not in session.get_providers():  # it goes on without, by itself
        raise DetrofitError(
            f"ONNX Runtime {onnxruntime.__version__} was built with CUDA and cannot use it here; check that CUDA and "
            "cuDNN are of the versions that it asks for, or give cpu"
        )
    return session


def _providers(device: str | None) -> list[Any]:
    kind, _, number = (device or "").partition(":")
    has_cuda = CUDA in onnxruntime.get_available_providers()
    if kind == "cpu" or (not kind and not has_cuda):
        return ["CPUExecutionProvider"]
    if kind not in ("", "cuda") or not (number or "0").isdigit():
        raise DetrofitError(f"a .onnx file runs on cpu or cuda, not on '{device}'")
    if not has_cuda:
        raise DetrofitError(f"this ONNX Runtime has no CUDA for '{device}'; install onnxruntime-gpu, or give cpu")
    return [(CUDA, {"device_id": number or "0"}), "CPUExecutionProvider"]


def _description(path: Path, session: Any) -> ExportDescription:
    return parse_description(path, lambda: session.get_modelmeta().custom_metadata_map.get(KEY))
