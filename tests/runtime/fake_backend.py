"""A backend that needs no model: it finds one box, told by the picture's mean colour."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np


class FakeBackend:
    """Three answers a picture in no order: a sure one, an unsure one that leaves the picture, and a hopeless one."""

    class_names = ("dark", "light")
    category_ids = (7, 3)
    input_size = (32, 48)
    threshold = 0.5
    max_detections = 300
    batch = None
    device = "cpu"

    def __init__(self, path: Path, device: str | None, plugins: Sequence[str | Path], **options: object) -> None:
        self.opened, self.options = (path, device, plugins), options
        self.batch_sizes: list[int] = []

    def __call__(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        assert pictures.dtype == np.uint8 and pictures.shape[1:] == (*self.input_size, 3)
        self.batch_sizes.append(len(pictures))
        count = len(pictures)
        boxes = np.array([[0, 0, 0.1, 0.1], [0.25, 0.5, 0.75, 1.0], [-0.2, 0.5, 1.5, 0.6]], np.float32)
        label = (pictures.mean(axis=(1, 2, 3)) > 127.5).astype(np.int64)
        scores = np.array([0.05, 0.9, 0.6], np.float32)
        return np.tile(boxes, (count, 1, 1)), np.tile(scores, (count, 1)), np.repeat(label[:, None], 3, axis=1)


class NeedsMissingModule:
    def __init__(self, *_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")
