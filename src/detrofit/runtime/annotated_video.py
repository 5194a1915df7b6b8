"""Writes a video with what was found drawn on it, by PyAV (the extra `video`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from detrofit.errors import DetrofitError
from detrofit.files import atomic_write

_TICKS = 90_000  # a second
_STANDARD_STEP = _TICKS // 25  # where a frame has no time of its own
# H.264 plays everywhere; without it, MPEG-4, which every build of FFmpeg has.
_CODECS = {"libx264": {"crf": "20", "preset": "veryfast"}, "libopenh264": {}, "mpeg4": {"q": "3"}}


@contextmanager
def annotated_video(target: Path, size: tuple[int, int]) -> Iterator[AnnotatedVideo]:
    """A video to add frames to, the first one of `size` (height, width); it is at `target` when it is whole."""
    with atomic_write(target) as temporary:
        video = AnnotatedVideo(temporary, size)
        try:
            yield video
            video.finish()
        finally:
            video.close()


class AnnotatedVideo:
    """An .mp4 file of frames with times of their own; the first frame sets its size, later ones are brought to it."""

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        codec: Any = next(name for name in _CODECS if name in av.codecs_available)
        # The index comes first, so that the file can be played while it is fetched, and piped.
        self._container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        self._stream: Any = self._container.add_stream(codec, rate=25, options=_CODECS[codec])
        height, width = size
        self._stream.width, self._stream.height = width + width % 2, height + height % 2  # halved for colours
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, _TICKS)
        self._ticks, self._shift = -_STANDARD_STEP, 0

    def add(self, picture: Image.Image, seconds: float | None) -> None:
        """Add a frame that is seen from `seconds` on (None: a twenty-fifth after the one before).

        Where the times begin anew, as in recordings put one after the other, they go on from here.
        """
        standard = self._ticks + _STANDARD_STEP
        next_ticks = standard if seconds is None else round(seconds * _TICKS) + self._shift
        if next_ticks < self._ticks - _TICKS:
            self._shift += standard - next_ticks
            next_ticks = standard
        self._ticks = max(next_ticks, self._ticks + 1, 0)
        frame = av.VideoFrame.from_ndarray(self._fitted(picture), format="rgb24")
        frame.pts, frame.time_base = self._ticks, Fraction(1, _TICKS)
        self._mux(frame)

    def finish(self) -> None:
        """Write what the encoder still holds; nothing can be added after."""
        self._mux(None)

    def close(self) -> None:
        """Write the index, and let go of the file."""
        self._container.close()

    def _mux(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except av.FFmpegError as error:
            raise DetrofitError(f"the annotated video cannot be written ({error.strerror}); free space") from None

    def _fitted(self, picture: Image.Image) -> np.ndarray:
        width, height = self._stream.width, self._stream.height
        if picture.width + picture.width % 2 != width or picture.height + picture.height % 2 != height:
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(picture)
        margins = ((0, height - pixels.shape[0]), (0, width - pixels.shape[1]), (0, 0))
        return np.ascontiguousarray(np.pad(pixels, margins, mode="edge"))
