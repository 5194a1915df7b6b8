"""Pictures that a quantisation is calibrated on, as the batches that a network takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from detrofit.data.index import DetectionIndex
from detrofit.pictures import PictureSource, decode_picture
from detrofit.runtime.preprocess import to_batch, to_images

PICTURES = 300  # NNCF's own default; ranges hardly move after it


@dataclass(frozen=True)
class Calibration:
    """Pictures of the split `source`, seen at `size` (height, width) in batches of `batch`."""

    source: str
    pictures: Sequence[PictureSource]
    size: tuple[int, int]
    batch: int

    def __len__(self) -> int:
        """How many full batches there are."""
        return len(self.pictures) // self.batch

    def __iter__(self) -> Iterator[np.ndarray]:
        """Batches float32 `[batch, 3, height, width]` in 0..1, made as each is asked for."""
        for start in range(0, len(self) * self.batch, self.batch):
            chosen = self.pictures[start : start + self.batch]
            yield to_images(to_batch([decode_picture(picture) for picture in chosen], self.size))


def calibration_of(
    index: DetectionIndex, size: tuple[int, int], batch: int | None, count: int = PICTURES
) -> Calibration:
    """At most `count` pictures of a split, spread evenly over it; a small split is repeated to fill one batch."""
    batch = batch or 1
    places = np.unique(np.linspace(0, len(index) - 1, min(count, len(index))).round().astype(int))
    paths: list[PictureSource] = [index.path(int(place)) for place in places]
    return Calibration(index.split, paths * -(-batch // len(paths)), size, batch)
