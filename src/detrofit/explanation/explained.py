"""A model that is explained: what runs it, and, of a model file of ours, the model itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from detrofit.explanation.queries import QueryDetections, query_detections
from detrofit.model.detector import RTDETR
from detrofit.runtime.backends import Backend, open_backend
from detrofit.runtime.preprocess import resize_picture, to_images
from detrofit.training.run_folder import BEST
from detrofit.weights.model_file import load_model


@dataclass(frozen=True)
class ExplainedModel:
    """A model with its name in panels; `model` is None for an exported file, of which saliency is all there is."""

    name: str
    backend: Backend
    model: RTDETR | None

    def resized(self, picture: np.ndarray) -> np.ndarray:
        """A picture uint8 `[H,W,3]` at the size that the model takes."""
        return resize_picture(picture, self.backend.input_size)

    def tensor(self, picture: np.ndarray) -> Tensor:
        """The same as float32 `[3,h,w]` in 0..1, where the model is."""
        assert self.model is not None
        return torch.from_numpy(to_images(self.resized(picture)[None])[0]).to(self.model.mean.device)

    def detections(self, picture: np.ndarray, threshold: float | None) -> QueryDetections:
        """The detections from a score on (default: the file's own), best first; the best one in any case."""
        lowest = self.backend.threshold if threshold is None else threshold
        if self.model is not None:
            found = query_detections(self.model, self.tensor(picture), self.backend.max_detections)
        else:
            boxes, scores, labels = (each[0] for each in self.backend(self.resized(picture)[None]))
            best = np.argsort(-scores, kind="stable")
            found = QueryDetections(boxes[best], scores[best], labels[best], np.full(len(best), -1))
        return found.take(np.arange(max(1, int((found.scores >= lowest).sum()))))


def open_models(files: Sequence[Path], device: str = "auto", plugins: Sequence[Path] = ()) -> list[ExplainedModel]:
    """Open model files (or run folders' best ones) under names that tell them apart."""
    target = None if device == "auto" else device
    paths = [file / BEST if file.is_dir() else file for file in files]
    names = _names(paths)
    opened = []
    for name, path in zip(names, paths):
        backend = open_backend(path, target, plugins)
        model = None
        if path.suffix.lower() == ".safetensors":
            where = target or ("cuda" if torch.cuda.is_available() else "cpu")
            model = load_model(path, plugins=plugins, device=where)
        opened.append(ExplainedModel(name, backend, model))
    return opened


def _names(paths: Sequence[Path]) -> list[str]:
    """The stem of each file, or of its folder where stems are the same or say nothing."""
    stems = [path.parent.resolve().name if path.name == BEST else path.stem for path in paths]
    return [f"{stem} {number}" if stems.count(stem) > 1 else stem for number, stem in enumerate(stems, start=1)]
