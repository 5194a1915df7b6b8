"""The pictures of a split in tiles, for evaluation: whole picture after whole picture, in batches of one size."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from detrofit.data.images import LabelledPicture, read_labelled
from detrofit.data.index import DetectionIndex
from detrofit.data.loader import Batch, LoadingFailure, Sample, data_loader, delivered, single_threaded
from detrofit.data.sampler import evaluation_share
from detrofit.data.transforms import as_target, fitted
from detrofit.errors import DetrofitError
from detrofit.tiling import WHOLE, Tiling


class TileRequest(NamedTuple):
    """A part of a picture: its `window` xyxy in pixels, and which tile of the picture that is (`WHOLE`: all of it)."""

    image: int
    tile: int
    window: tuple[int, int, int, int]


@dataclass(frozen=True)
class TilePictures(Dataset):
    """Parts of pictures, resized, without labels; the target says which `tile` it is and its `size` (height, width)."""

    index: DetectionIndex
    size: tuple[int, int]

    def __getitem__(self, request: TileRequest) -> Sample | LoadingFailure:
        left, top, right, bottom = request.window
        try:
            with single_threaded():
                pixels = _pixels(self.index, request.image)[:, top:bottom, left:right]
                nothing = LabelledPicture(pixels, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
                target = as_target(nothing, request.image, (bottom - top, right - left))
                return fitted(nothing, self.size).pixels, {**target, "tile": request.tile}
        except DetrofitError as error:
            return LoadingFailure(str(error))


class TileLoader:
    """Batches of tiles of this process's share of the pictures: uint8 `[B, 3, h, w]` and a target for each.

    The tiles of a picture come row by row, then the whole picture; a batch may hold tiles of several pictures. Whatever
    the size of a picture, `batch_size` tiles are in a batch at most; where a picture has more, one worker loads alone.
    Raises DetrofitError for a picture that cannot be read.
    """

    def __init__(
        self,
        index: DetectionIndex,
        size: tuple[int, int],
        tiling: Tiling,
        batch_size: int,
        *,
        workers: int = 2,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        self.index, self.tiling = index, tiling
        by_image = [list(self._requests(image)) for image in evaluation_share(len(index), num_replicas, rank)]
        requests = list(itertools.chain.from_iterable(by_image))
        batches = [requests[start : start + batch_size] for start in range(0, len(requests), batch_size)]
        # Workers take turns at batches: each would decode a picture whose tiles are in several.
        several = any(len(each) > batch_size for each in by_image)
        self.workers = min(workers, 1) if several else workers
        self._loader = data_loader(TilePictures(index, size), batches, self.workers, None)

    def __iter__(self) -> Iterator[Batch]:
        return delivered(self._loader)

    def windows(self, image: int) -> np.ndarray:
        """The tiles of a picture, xyxy int64 `[T,4]` in pixels, row by row."""
        return self.tiling.windows(int(self.index.heights[image]), int(self.index.widths[image]))

    def _requests(self, image: int) -> Iterator[TileRequest]:
        windows = self.windows(image).tolist()
        for tile, window in enumerate(windows):
            yield TileRequest(image, tile, tuple(window))
        yield TileRequest(image, WHOLE, (0, 0, int(self.index.widths[image]), int(self.index.heights[image])))


@lru_cache(maxsize=1)
def _pixels(index: DetectionIndex, image: int) -> Tensor:
    """The picture, kept until the next one: its tiles come one after another."""
    return read_labelled(index, image).pixels.clone(memory_format=torch.contiguous_format)
