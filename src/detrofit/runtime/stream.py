"""Results of any number of pictures and frames, one after another, in flat memory."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TypeAlias, TypeVar

import numpy as np

from detrofit.errors import DetrofitError
from detrofit.runtime.frames import Frame, Reading, check_video_extra, read_frames
from detrofit.runtime.read_ahead import ReadAhead
from detrofit.runtime.results import Detections
from detrofit.runtime.sources import Picture, Source, Video, find_sources

T = TypeVar("T")
Detect: TypeAlias = Callable[[Sequence[np.ndarray]], list[Detections]]


class ResultStream(Iterator[Detections]):
    """An iterator over results; `close` it, or use it in a `with`, to end it early.

    Attributes:
        sources: what it goes through, in this order.
    """

    def __init__(
        self,
        detect: Detect,
        source: Source,
        batch: int = 1,
        every: int = 1,
        threads: int | None = None,
    ) -> None:
        self.sources: list[Picture | Video] = find_sources(source)
        if any(isinstance(each, Video) for each in self.sources):
            check_video_extra()
        self._reading = Reading(every, threads)
        self._frames = ReadAhead(read_frames(self.sources, self._reading), self._reading.stop)
        self._results = self._run(detect, batch)

    def __next__(self) -> Detections:
        return next(self._results)

    def __enter__(self) -> ResultStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading and close what is open; no more results come."""
        self._results.close()

    def stop(self) -> None:
        """End after the result that is being made; for other threads and signal handlers."""
        self._frames.stop()

    @property
    def skipped(self) -> int:
        """Damaged pictures and frames so far; the first ones are named on the log `detrofit`."""
        return self._reading.skipped

    @property
    def dropped(self) -> int:
        """Frames of live sources that came faster than they could be used."""
        return self._frames.dropped

    @property
    def reopened(self) -> int:
        """How often a broken stream was opened again."""
        return self._reading.reopened

    def expected(self) -> int | None:
        """About how many results there will be, by the headers of videos; None where a source has no known end."""
        numbers = [self._expected_of(source) for source in self.sources]
        return None if None in numbers else sum(number for number in numbers if number is not None)

    def _expected_of(self, source: Picture | Video) -> int | None:
        if isinstance(source, Picture):
            return 1
        from detrofit.runtime.video import expected_frames

        try:
            frames = expected_frames(source)
        except DetrofitError:  # told when its turn comes
            return 0
        return None if frames is None else -(-frames // self._reading.every)

    def _run(self, detect: Detect, batch: int) -> Generator[Detections, None, None]:
        with self._frames as frames:
            for chosen in _chunks(frames, batch):
                for frame, found in zip(chosen, detect([frame.pixels for frame in chosen]), strict=True):
                    yield _placed(found, frame)


def _placed(found: Detections, frame: Frame) -> Detections:
    return replace(
        found,
        source=frame.name,
        source_index=frame.source_index,
        frame=frame.number,
        seconds=frame.seconds,
        picture=frame.pixels,
    )


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """`size` at a time; what came before an error is not lost with it."""
    iterator = iter(items)
    error = None
    while error is None:
        chunk: list[T] = []
        try:
            for item in islice(iterator, size):
                chunk.append(item)  # unlike list(), it keeps what came before an error
        except DetrofitError as raised:
            error = raised
        if chunk:
            yield chunk
        elif error is None:
            return
    raise error
