"""What runs a model file, found by the file's suffix and imported when the first file of its kind is opened."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from detrofit.errors import DetrofitError, nearest
from detrofit.extras import explain_missing_module


class Backend(Protocol):
    """A loaded model file. Backends are called with (path, device, plugins, half=, threads=) to open one.

    Attributes:
        class_names: C names, by contiguous class id.
        category_ids: C ids of the data that it was trained on, by contiguous class id.
        input_size: height and width in pixels of the pictures that it takes.
        threshold: the score from which on a detection is worth showing.
        max_detections: the most detections of one picture.
        batch: pictures that run at once; None where any number does.
        device: where it runs, as in `cpu`, `cuda:0` or `cuda:0 (NVIDIA T4)`, to be read by people.
    """

    class_names: Sequence[str]
    category_ids: Sequence[int]
    input_size: tuple[int, int]
    threshold: float
    max_detections: int
    batch: int | None
    device: str

    def __call__(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Detect.

        Args:
            pictures: RGB of `input_size`, uint8 `[B, H, W, 3]`; may be read only.

        Returns:
            boxes_xyxy float32 `[B, K, 4]` as shares of the picture's width and height, scores float32 `[B, K]` in
            0..1, labels int64 `[B, K]`, in any order.
        """


# Dotted names, so that the runtime depends on no other room.
BACKENDS = {
    ".safetensors": "detrofit.weights.torch_backend:TorchBackend",
    ".onnx": "detrofit.runtime.onnx_backend:OnnxBackend",
    ".xml": "detrofit.runtime.openvino_backend:OpenVinoBackend",
}


def open_backend(
    file: str | Path,
    device: str | None = None,
    plugins: Sequence[str | Path] = (),
    *,
    half: bool | None = None,
    threads: int | None = None,
) -> Backend:
    """Open a model file with the backend of its suffix.

    Args:
        half: compute in the device's half precision (bf16 or float16), or in float32; None as the file says.
        threads: of the processor; None for as many as the backend thinks best.

    Raises `DetrofitError` if the file is missing, of a kind that no backend runs, if its backend is not installed, or
    if its device has no half precision.
    """
    path = Path(file)
    _check_file(path)
    if threads is not None and threads < 1:
        raise DetrofitError(f"threads is {threads}; give 1 or more")
    module, attribute = BACKENDS[path.suffix.lower()].split(":")
    try:
        backend = getattr(importlib.import_module(module), attribute)
        return backend(path, device, tuple(Path(plugin) for plugin in plugins), half=half, threads=threads)
    except ModuleNotFoundError as error:
        raise (explain_missing_module(error) or error) from error


def _check_file(path: Path) -> None:
    if path.is_dir():
        models = sorted(each.name for each in path.iterdir() if each.suffix.lower() in BACKENDS)
        example = "best.safetensors" if "best.safetensors" in models or not models else models[0]
        raise DetrofitError(f"'{path}' is a folder; give a model file, as in {path / example}")
    if not path.exists():
        siblings = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DetrofitError(f"no model file at '{path}'{nearest(path.name, siblings) or '; check the path'}")
    if path.suffix.lower() not in BACKENDS:
        raise DetrofitError(f"'{path}' is no model file that can be run; known are {', '.join(BACKENDS)}")
