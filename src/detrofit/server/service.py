"""A detector behind a queue, for many requests at once."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from detrofit.errors import DetrofitError
from detrofit.pictures import decode_picture
from detrofit.runtime.detector import Detector
from detrofit.runtime.preprocess import resize_picture
from detrofit.runtime.results import Detections
from detrofit.server.batching import Batcher
from detrofit.server.limits import Limits
from detrofit.server.metrics import Metrics


class Busy(Exception):
    """As many requests as allowed are worked on."""


class Service:
    """A detector behind a queue.

    Args:
        detector: its threshold is what a request gets that asks for none.
        limits: the bounds.
    """

    def __init__(self, detector: Detector, limits: Limits) -> None:
        if detector.tiling is not None:
            raise DetrofitError("the server brings pictures to the size of the network, so it has no use for tiles")
        self.detector, self.limits = detector, limits
        self.in_work = 0
        self.metrics = Metrics(lambda: len(self._batcher), lambda: self.in_work)
        everything = partial(detector.detect, threshold=0.0)  # each request has a threshold of its own
        batch = min(limits.batch, detector.backend.batch or limits.batch)  # what runs one after another need not wait
        self._batcher = Batcher(everything, batch, limits.gather_seconds, self.metrics.batch_size.observe)
        self._decoders = ThreadPoolExecutor(limits.decoders, "detrofit-decoder")

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Work on one more request; `Busy` where that is too many."""
        if self.in_work >= self.limits.requests:
            raise Busy
        self.in_work += 1
        try:
            yield
        finally:
            self.in_work -= 1

    def warm_up(self) -> None:
        """Run once, so that no request waits for what a backend does the first time."""
        self._batcher.submit(np.zeros((*self.detector.backend.input_size, 3), np.uint8)).result()

    async def detect(self, content: bytes, threshold: float) -> Detections:
        """What is in the picture, from `threshold` on; DetrofitError where it cannot be read."""
        picture, size = await self._in_decoder(self._prepare, content)
        found = await asyncio.wrap_future(self._batcher.submit(picture))
        return found.scaled_to(size).filter(threshold)

    async def draw(self, content: bytes, found: Detections) -> bytes:
        """The picture with the boxes on it, as PNG."""
        return await self._in_decoder(_plot, content, found)

    def close(self) -> None:
        """Finish what was taken on."""
        self._batcher.close()
        self._decoders.shutdown()

    def _prepare(self, content: bytes) -> tuple[np.ndarray, tuple[int, int]]:
        """The picture at the size of the network, so that what waits is small, and its own height and width."""
        picture = decode_picture(content, max_pixels=self.limits.pixels)
        height, width = picture.shape[:2]
        return resize_picture(picture, self.detector.backend.input_size), (height, width)

    async def _in_decoder(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._decoders, function, *arguments)


def _plot(content: bytes, found: Detections) -> bytes:
    file = io.BytesIO()
    found.plot(content).save(file, "PNG", compress_level=1)  # somebody waits for it; a small file matters less
    return file.getvalue()
