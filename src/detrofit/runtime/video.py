"""Frames of video files, network streams, cameras and standard input, by PyAV (the extra `video`)."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import av
import numpy as np

from detrofit.errors import DetrofitError
from detrofit.pictures import MAX_PIXELS, decode_picture
from detrofit.runtime.frames import Frame, Reading, StreamLost
from detrofit.runtime.open_video import open_container, reason_of
from detrofit.runtime.sources import Video
from detrofit.runtime.standard_input import StandardInput

_log = logging.getLogger("detrofit")


@dataclass(frozen=True)
class BackOff:
    """How a broken stream is opened again: `attempts` in a row, the pause doubling from `first` to `longest` s."""

    attempts: int = 8
    first: float = 0.5
    longest: float = 10.0

    def pause(self, attempt: int) -> float:
        """Seconds before attempt 0, 1 ..."""
        return min(self.first * 2**attempt, self.longest)


BACK_OFF = BackOff()


def video_frames(source: Video, index: int, reading: Reading, back_off: BackOff = BACK_OFF) -> Iterator[Frame]:
    """The frames of `source`, the `index`-th source, that `reading` asks for.

    Damaged frames are skipped and counted. A stream or camera that breaks is opened again; where it is a file behind an
    address, it goes on after the last frame.

    Raises:
        DetrofitError: it cannot be opened, or no frame of it can be decoded.
        StreamLost: it broke, and all attempts of `back_off` failed.
    """
    frames = _Frames(source, index, reading)
    if source.kind == "file":
        yield from frames.once(open_container(source))
    elif source.kind == "input":
        content = StandardInput()
        if content.is_picture():
            yield Frame(source.name, index, decode_picture(content.read_picture()))
        else:
            yield from frames.once(open_container(source, content))
    else:
        yield from _with_reopening(frames, back_off)


def expected_frames(source: Video) -> int | None:
    """About how many frames a video file has by its header; None where that is unknown. Raises as `video_frames`."""
    if source.kind != "file":
        return None
    with open_container(source) as container:
        stream = container.streams.video[0]
        if stream.frames:
            return int(stream.frames)
        if container.duration and stream.average_rate:
            return max(1, round(container.duration / av.time_base * stream.average_rate))
        return None


def _with_reopening(frames: _Frames, back_off: BackOff) -> Iterator[Frame]:
    source = frames.source
    container = open_container(source)  # what never worked is a mistake, and is not tried again
    attempt = 0
    while container is not None:
        before = frames.number
        reason = yield from frames.until_broken(container)
        if reason is None:
            return
        attempt = attempt if frames.number == before else 0
        container = None
        while container is None and attempt < back_off.attempts:
            pause = back_off.pause(attempt)
            attempt += 1
            _log.warning("%s broke (%s); opening it again in %.1f s", source.name, reason, pause)
            if frames.reading.stop.wait(pause):
                return
            container = _reopened(source, frames.reading)
    raise StreamLost(f"{source.name} broke after {frames.number} frames, and did not come back in {attempt} attempts")


def _reopened(source: Video, reading: Reading) -> Any:
    """The container, or None where the attempt failed."""
    try:
        container = open_container(source)
    except DetrofitError:
        return None
    reading.reopened += 1
    return container


class _Frames:
    """The frames of one video, counted over all times that it was opened.

    Attributes:
        number: frames so far, skipped ones counted.
    """

    def __init__(self, source: Video, index: int, reading: Reading) -> None:
        self.source, self.index, self.reading = source, index, reading
        self.number = 0
        self._taken = 0
        self._last: float | None = None
        self._started = time.monotonic()

    def once(self, container: Any) -> Iterator[Frame]:
        """All frames of what cannot be opened again; what is damaged is skipped."""
        try:
            yield from self._of(container, ends=True)
        except av.FFmpegError as error:
            self.reading.skip(f"the rest of {self.source.name} from frame {self.number} on ({reason_of(error)})")
        if not self._taken and not self.reading.stop.is_set():
            raise DetrofitError(f"no frame of {self.source.name} can be decoded; check or convert it")

    def until_broken(self, container: Any) -> Generator[Frame, None, str | None]:
        """The frames of what may be opened again; returns why it broke, or None where it is over."""
        ends = _ends(container)
        try:
            yield from self._of(container, ends)
        except av.FFmpegError as error:
            return reason_of(error)
        return None if ends or self.reading.stop.is_set() else "it ended"

    def _of(self, container: Any, ends: bool) -> Iterator[Frame]:
        """The frames of an open container, which is closed after; PyAV's error where it breaks.

        `ends` says that it is a recording: its frames have a time in it, and none may be passed over.
        """
        with container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = self.reading.threads or 0
            already = self._last  # a recording that is opened again starts anew, and comes to where it was
            for decoded in self._decoded(container, stream):
                seconds = _seconds(decoded, stream) if ends else time.monotonic() - self._started
                if ends and already is not None and seconds is not None and seconds <= already:
                    continue
                frame = self._frame(decoded, seconds, live=not ends)
                if frame is not None:
                    self._taken += 1
                    yield frame

    def _decoded(self, container: Any, stream: Any) -> Iterator[Any]:
        for packet in container.demux(stream):
            if self.reading.stop.is_set():
                return
            try:
                yield from packet.decode()
            except av.EOFError:
                return
            except av.FFmpegError as error:
                self.reading.skip(f"frame {self.number} of {self.source.name} ({reason_of(error)})")
                self.number += 1

    def _frame(self, decoded: Any, seconds: float | None, live: bool) -> Frame | None:
        """The frame, or None where it is damaged or not asked for."""
        number, self.number = self.number, self.number + 1
        self._last = seconds
        if number % self.reading.every:
            return None
        try:
            if decoded.is_corrupt:
                raise ValueError("damaged")
            pixels = _upright_pixels(decoded)
        except (av.FFmpegError, ValueError) as error:
            self.reading.skip(f"frame {number} of {self.source.name} ({reason_of(error)})")
            return None
        return Frame(self.source.name, self.index, pixels, number, seconds, live)


def _ends(container: Any) -> bool:
    """Whether an address gives a recording: of a length, or a file of a size (that of a playlist says nothing)."""
    return container.duration is not None or (container.size > 0 and "hls" not in container.format.name)


def _seconds(decoded: Any, stream: Any) -> float | None:
    if decoded.time is None:
        return None
    start = stream.start_time or 0
    return float(decoded.time - start * stream.time_base)


def _upright_pixels(decoded: Any) -> np.ndarray:
    """uint8 `[H, W, 3]`; a film that a phone took sideways is turned, as players do."""
    if decoded.width * decoded.height > MAX_PIXELS:
        raise ValueError(f"{decoded.width} x {decoded.height} pixels are more than {MAX_PIXELS:,}")
    pixels: np.ndarray = decoded.to_ndarray(format="rgb24")
    quarters = round(decoded.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, quarters)) if quarters else pixels
