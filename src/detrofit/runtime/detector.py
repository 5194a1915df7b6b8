"""A model file that is called with pictures: the same steps for every backend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from PIL import Image

from detrofit.errors import DetrofitError
from detrofit.runtime.backends import Backend, open_backend
from detrofit.runtime.preprocess import to_batch
from detrofit.runtime.results import Detections
from detrofit.runtime.sources import Picture, Source, find_pictures, is_single


class Detector:
    """Finds objects in pictures with a model file.

    Args:
        file: the model file; its suffix chooses what runs it.
        threshold: detections of a lower score are left out, 0..1; by default the file's own.
        device: where to run, such as `cpu` or `cuda:0`; by default the backend chooses.
        plugins: files of the user's own parts that the model was built with.

    Raises:
        DetrofitError: the file cannot be opened, or the threshold lies outside 0..1.
    """

    def __init__(
        self,
        file: str | Path,
        *,
        threshold: float | None = None,
        device: str | None = None,
        plugins: Sequence[str | Path] = (),
    ) -> None:
        if threshold is not None and not 0 <= threshold <= 1:
            raise DetrofitError(f"threshold is {threshold}, but a score lies between 0 and 1; give a number in 0..1")
        self.file = Path(file)
        self.backend: Backend = open_backend(file, device, plugins)
        self.threshold = self.backend.threshold if threshold is None else threshold

    def __repr__(self) -> str:
        height, width = self.backend.input_size
        return f"Detector('{self.file}', {len(self.class_names)} classes, {width} x {height})"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each contiguous class id."""
        return tuple(self.backend.class_names)

    @property
    def category_ids(self) -> tuple[int, ...]:
        """The id of each class in the data that the model was trained on."""
        return tuple(self.backend.category_ids)

    @overload
    def __call__(self, source: bytes | Image.Image | np.ndarray, batch: int = 1) -> Detections: ...

    @overload
    def __call__(self, source: list[Any] | tuple[Any, ...], batch: int = 1) -> list[Detections]: ...

    @overload
    def __call__(self, source: Source, batch: int = 1) -> Any: ...

    def __call__(self, source: Source, batch: int = 1) -> Any:
        """What is in one picture (a file, bytes, a Pillow image, an array), or a list for any other source."""
        results = list(self.predict(source, batch))
        return results[0] if is_single(source) else results

    def predict(self, source: Source, batch: int = 1) -> Iterator[Detections]:
        """One result after another for all pictures of `source` (see `find_pictures`), `batch` at a time.

        The source is checked at once, before the first result is asked for; a picture that cannot be read raises
        `DetrofitError` when its turn comes.
        """
        if batch < 1:
            raise DetrofitError(f"batch is {batch}; give 1 or more")
        return self._run(find_pictures(source), batch)

    def _run(self, pictures: Sequence[Picture], batch: int) -> Iterator[Detections]:
        for start in range(0, len(pictures), batch):
            chosen = pictures[start : start + batch]
            decoded = [picture.decode() for picture in chosen]
            boxes, scores, labels = self.backend(to_batch(decoded, self.backend.input_size))
            for i, (picture, pixels) in enumerate(zip(chosen, decoded, strict=True)):
                yield self._detections(boxes[i], scores[i], labels[i], pixels.shape[:2], picture.name)

    def _detections(
        self, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, size: tuple[int, ...], name: str
    ) -> Detections:
        """The detections of one picture: best first, no more than allowed, in pixels and inside the picture."""
        height, width = size
        best = np.argsort(-scores, kind="stable")[: self.backend.max_detections]
        best = best[scores[best] >= self.threshold]
        sides = np.array([width, height, width, height], np.float32)
        return Detections(
            boxes_xyxy=(boxes[best].astype(np.float32) * sides).clip(0, sides),
            scores=scores[best].astype(np.float32),
            labels=labels[best].astype(np.int64),
            class_names=self.class_names,
            size=(height, width),
            source=name,
        )
