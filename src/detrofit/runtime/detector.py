"""A model file that is called with pictures: the same steps for every backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np
from PIL import Image

from detrofit.errors import DetrofitError
from detrofit.runtime.backends import Backend, open_backend
from detrofit.runtime.preprocess import to_batch
from detrofit.runtime.results import Detections
from detrofit.runtime.sources import Source, find_pictures, is_single
from detrofit.runtime.stream import ResultStream
from detrofit.runtime.tiles import detect_in_tiles
from detrofit.tiling import Tiling


class Detector:
    """Finds objects in pictures with a model file.

    Args:
        file: the model file; its suffix chooses what runs it.
        threshold: detections of a lower score are left out, 0..1; by default the file's own.
        device: where to run, such as `cpu` or `cuda:0`; by default the backend chooses.
        plugins: files of the user's own parts that the model was built with.
        half: compute in the device's half precision, or in float32; by default as the file says.
        tiling: see large pictures in tiles of that many of their pixels, for small objects.
        threads: of one inference and of decoding a video; by default as many as each thinks best.

    Threads may share it. Raises:
        DetrofitError: the file cannot be opened, or an argument lies outside its range.
    """

    def __init__(
        self,
        file: str | Path,
        *,
        threshold: float | None = None,
        device: str | None = None,
        plugins: Sequence[str | Path] = (),
        half: bool | None = None,
        threads: int | None = None,
        tiling: Tiling | None = None,
    ) -> None:
        if threshold is not None and not 0 <= threshold <= 1:
            raise DetrofitError(f"threshold is {threshold}, but a score lies between 0 and 1; give a number in 0..1")
        self.file = Path(file)
        self.backend: Backend = open_backend(file, device, plugins, half=half, threads=threads)
        self.threshold = self.backend.threshold if threshold is None else threshold
        self.threads, self.tiling = threads, tiling

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
        """What is in one picture (a file, bytes, a Pillow image, an array), or a list for a folder, a glob or a list.

        Raises `DetrofitError` for a picture that cannot be read, and for what `stream` is for.
        """
        _check_count("batch", batch)
        pictures = find_pictures(source)
        results = []
        for start in range(0, len(pictures), batch):
            chosen = pictures[start : start + batch]
            found = self.detect([picture.decode() for picture in chosen])
            results += [
                replace(each, source=picture.name, source_index=start + i, picture=picture.content)
                for i, (each, picture) in enumerate(zip(found, chosen, strict=True))
            ]
        return results[0] if is_single(source) else results

    def stream(self, source: Source, *, batch: int = 1, every: int = 1) -> ResultStream:
        """One result after another for all pictures and frames of `source` (see `find_sources`), in flat memory.

        A thread decodes ahead, by a few pictures at most. Each result holds the pixels it was found in, for `plot`.

        Args:
            batch: pictures at a time.
            every: of a video, each `every`-th frame from the first on.

        Raises `DetrofitError` at once for a source that does not exist; and when its turn comes, for one that cannot be
        opened. Damaged pictures among others and damaged frames are skipped and counted.
        """
        _check_count("batch", batch)
        _check_count("every", every)
        return ResultStream(self.detect, source, batch, every, self.threads)

    def detect(self, pictures: Sequence[np.ndarray], threshold: float | None = None) -> list[Detections]:
        """What is in decoded pictures, uint8 `[H, W, 3]` in RGB, run as one batch; `threshold` replaces the own one."""
        if not pictures:
            return []
        lowest = self.threshold if threshold is None else threshold
        if self.tiling is not None:
            return [self._in_tiles(picture, self.tiling, lowest) for picture in pictures]
        boxes, scores, labels = self.backend(to_batch(pictures, self.backend.input_size))
        sizes = (picture.shape[:2] for picture in pictures)
        return [self._detections(*each, lowest) for each in zip(boxes, scores, labels, sizes, strict=True)]

    def _in_tiles(self, picture: np.ndarray, tiling: Tiling, lowest: float) -> Detections:
        found = detect_in_tiles(self.backend, picture, tiling, lowest)
        height, width = picture.shape[:2]
        return Detections(found.boxes, found.scores, found.labels, self.class_names, (height, width))

    def _detections(
        self, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, size: tuple[int, ...], lowest: float
    ) -> Detections:
        """The detections of one picture: best first, no more than allowed, in pixels and inside the picture."""
        height, width = size
        best = np.argsort(-scores, kind="stable")[: self.backend.max_detections]
        best = best[scores[best] >= lowest]
        sides = np.array([width, height, width, height], np.float32)
        return Detections(
            boxes_xyxy=(boxes[best].astype(np.float32) * sides).clip(0, sides),
            scores=scores[best].astype(np.float32),
            labels=labels[best].astype(np.int64),
            class_names=self.class_names,
            size=(height, width),
        )


def _check_count(name: str, value: int) -> None:
    if value < 1:
        raise DetrofitError(f"{name} is {value}; give 1 or more")
