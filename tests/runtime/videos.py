"""Small videos, and servers on this machine that break off in the middle of them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest


def brightness_of(number: int) -> int:
    """Of frame `number`: enough apart to be told after compression."""
    return 12 * number % 252


def write_video(
    path: Path, frames: int = 20, size: tuple[int, int] = (48, 64), codec: str = "mpeg4", form: str | None = None
) -> Path:
    """A video of 25 frames a second, each of one brightness; `size` is height and width."""
    pictures = (np.full((*size, 3), brightness_of(number), np.uint8) for number in range(frames))
    return write_pictures(path, pictures, size, codec, form)


def write_pictures(
    path: Path, pictures: Iterable[np.ndarray], size: tuple[int, int], codec: str = "mpeg4", form: str | None = None
) -> Path:
    """A video of 25 frames a second; `size` is height and width of all of them."""
    av = pytest.importorskip("av", reason="PyAV is not installed")
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        stream.codec_context.gop_size = 5
        for pixels in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


class BreakingServer(ThreadingHTTPServer):
    """Serves `content` on 127.0.0.1; answer n closes after `lengths[n]` bytes, and answers after the last are 404.

    Attributes:
        says_length: whether the answers tell the whole length, as of a file.
        answered: how many there were.
    """

    daemon_threads = True

    def __init__(self, content: bytes, lengths: list[int], says_length: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content, self.lengths, self.says_length = content, lengths, says_length
        self.answered = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/stream"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: BreakingServer

    def do_GET(self) -> None:
        number, self.server.answered = self.server.answered, self.server.answered + 1
        if number >= len(self.server.lengths):
            self.send_error(404)
            return
        self.send_response(200)
        if self.server.says_length:
            self.send_header("Content-Length", str(len(self.server.content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(self.server.content[: self.server.lengths[number]])
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nothing on the screen."""


@contextmanager
def breaking_server(content: bytes, lengths: list[int], says_length: bool = False) -> Iterator[BreakingServer]:
    server = BreakingServer(content, lengths, says_length)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
