"""Runs .xml files (with their .bin) with OpenVINO."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from detrofit.errors import DetrofitError
from detrofit.runtime.exported import KEY, ExportDescription, ExportedBackend, parse_description


class OpenVinoBackend(ExportedBackend):
    """A .xml file of ours, compiled for one picture after another in float32, as the parity record was made.

    Raises DetrofitError for files that are damaged, incomplete or none of ours, or a device that is not there.
    """

    def __init__(self, path: Path, device: str | None = None, plugins: Sequence[Path] = ()) -> None:
        model = read_model(path)
        super().__init__(_description(path, model))
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        try:
            compiled = openvino.Core().compile_model(model, (device or "cpu").upper(), settings)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise DetrofitError(f"{path} cannot be run by OpenVINO on '{device or 'cpu'}': {reason}") from None
        self.compiled = compiled

    def compute(self, images: np.ndarray) -> list[np.ndarray]:
        # A request of its own for each call, so that threads may share the backend; its buffers go with it.
        results = self.compiled.create_infer_request().infer([images])
        return [np.array(results[port]) for port in self.compiled.outputs]


def read_description(path: Path) -> ExportDescription:
    """What a .xml file of ours says about itself."""
    return _description(path, read_model(path))


def read_model(path: Path) -> Any:
    """The network in a .xml file and its .bin; DetrofitError if one is missing or damaged."""
    weights = path.with_suffix(".bin")
    if not weights.exists():
        raise DetrofitError(f"{path} needs its weights in {weights}, which is not there; keep both files together")
    try:
        return openvino.Core().read_model(path, weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise DetrofitError(f"{path} cannot be opened by OpenVINO: {reason}") from None


def _description(path: Path, model: Any) -> ExportDescription:
    place = [KEY, "description"]
    return parse_description(path, model.get_rt_info(place).astype(str) if model.has_rt_info(place) else None)
