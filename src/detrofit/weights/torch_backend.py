"""What lets the runtime's Detector run a model file with torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from detrofit.errors import DetrofitError
from detrofit.model.costs import count_flops, count_parameters
from detrofit.model.fuse import fuse, halve
from detrofit.model.postprocess import postprocess
from detrofit.weights.model_file import load_model, read_info


class TorchBackend:
    """Runs a model file. Called with pictures uint8 [B,H,W,3], it returns boxes xyxy in 0..1 [B,K,4],
    scores [B,K] and contiguous labels [B,K], best first.

    Half precision is bf16 on a processor and float16 on CUDA. `threads` are set for the whole process, as torch has it.
    Without `fused` the network is the one that was trained, not its faster deploy form. Raises DetrofitError for a file
    that is none of ours, and a device that is not there.
    """

    class_names: Sequence[str]
    category_ids: Sequence[int]
    batch: int | None = None

    def __init__(
        self,
        path: Path,
        device: str | None = None,
        plugins: Iterable[Path] = (),
        *,
        half: bool | None = None,
        threads: int | None = None,
        fused: bool = True,
    ) -> None:
        info = read_info(path)
        self.class_names, self.category_ids = info.class_names, info.category_ids
        self.input_size, self.threshold = info.input_size, info.threshold
        self._device = _open_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.device = str(self._device)
        if self._device.type == "cuda":
            self.device += f" ({torch.cuda.get_device_name(self._device)})"
        self.half = bool(half)
        model = load_model(path, plugins=plugins)
        self.model = (fuse(model) if fused else model).to(self._device).to(memory_format=torch.channels_last)
        self.half_type = torch.float16 if self._device.type == "cuda" else torch.bfloat16
        if self.half:
            halve(self.model, self.half_type)
        self.max_detections = self.model.frame.max_detections
        if threads is not None:
            torch.set_num_threads(threads)

    @torch.inference_mode()
    def __call__(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        # They go to the device as bytes, and dividing keeps the channels last.
        images = torch.tensor(pictures, device=self._device).permute(0, 3, 1, 2) / 255
        with self._precision():
            output = self.model(images)
        found = postprocess(output.prediction, torch.ones(len(images), 2), self.max_detections)
        arrays = (tensor.float().cpu().numpy() for tensor in (found.boxes, found.scores, found.labels))
        return tuple(arrays)  # type: ignore[return-value]

    def costs(self) -> tuple[int, int]:
        """Parameters, and floating-point operations of one picture of `input_size`."""
        with self._precision():
            return count_parameters(self.model), count_flops(self.model, self.input_size)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self._device.type, self.half_type, enabled=self.half)


def _open_device(name: str) -> torch.device:
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError):  # unknown, not built into this torch, or not plugged in
        raise DetrofitError(f"torch has no device '{name}' here; give cpu, cuda, cuda:1 or mps") from None
