"""From a list of sources to decoded pictures, one after another, with what happened on the way."""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from detrofit.errors import DetrofitError
from detrofit.extras import explain_missing_module
from detrofit.runtime.sources import Picture, Video

_log = logging.getLogger("detrofit")
_SKIPS_TOLD = 10  # each by itself; the rest are counted


class StreamLost(DetrofitError):
    """A stream that had given frames broke and did not come back."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A decoded picture, or one frame of a video.

    Attributes:
        name: of its source.
        source_index: position of its source among the sources.
        pixels: uint8 `[H, W, 3]`, red green blue, upright.
        number: of the frame in its video, from 0, skipped ones counted; None for a picture.
        seconds: its time in the video; None for a picture, or where the video does not tell.
        live: it comes as fast as something happens, so that it may be passed over for a newer one.
    """

    name: str
    source_index: int
    pixels: np.ndarray
    number: int | None = None
    seconds: float | None = None
    live: bool = False


@dataclass
class Reading:
    """What reading does and what happened so far; written by the thread that reads.

    Attributes:
        every: of a video each `every`-th frame is taken, from the first on.
        threads: that decode a video; None for as many as the decoder thinks best.
        stop: set to end the reading soon, also while it waits for a stream.
        read: pictures and frames that were decoded and taken.
        skipped: damaged pictures and frames that were left out.
        reopened: how often a broken stream was opened again.
    """

    every: int = 1
    threads: int | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    read: int = 0
    skipped: int = 0
    reopened: int = 0

    def skip(self, what: str) -> None:
        """Count something that cannot be read, and say so on the log `detrofit` while that is news."""
        self.skipped += 1
        if self.skipped <= _SKIPS_TOLD:
            _log.warning("left out: %s", what)
        if self.skipped == _SKIPS_TOLD:
            _log.warning("from here on what is left out is only counted")


def read_frames(sources: Sequence[Picture | Video], reading: Reading) -> Generator[Frame, None, None]:
    """All pictures and frames of `sources` in their order.

    A file that cannot be read is skipped and counted, unless it is the only source.

    Raises:
        DetrofitError: the only file cannot be read, or none of several; an address or a camera cannot be opened.
        StreamLost: a stream broke and did not come back.
    """
    for index, source in enumerate(sources):
        if reading.stop.is_set():
            return
        try:
            for frame in _frames_of(source, index, reading):
                reading.read += 1
                yield frame
        except DetrofitError as error:
            if len(sources) == 1 or not _is_file(source):
                raise
            reading.skip(str(error))
    if not reading.read and not reading.stop.is_set():
        raise DetrofitError(f"none of the {len(sources)} sources could be read, for the reasons told before")


def _frames_of(source: Picture | Video, index: int, reading: Reading) -> Iterator[Frame]:
    if isinstance(source, Picture):
        return iter([Frame(source.name, index, source.decode())])
    check_video_extra()
    from detrofit.runtime.video import video_frames

    return video_frames(source, index, reading)


def _is_file(source: Picture | Video) -> bool:
    return isinstance(source, Picture) or source.kind == "file"


def check_video_extra() -> None:
    """`DetrofitError` that says what to install where videos cannot be read."""
    try:
        import av  # noqa: F401
    except ModuleNotFoundError as error:
        raise (explain_missing_module(error) or error) from None
