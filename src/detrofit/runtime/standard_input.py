"""What comes through a pipe: a picture or a video, told by its first bytes."""

from __future__ import annotations

import sys

from detrofit.errors import DetrofitError

MAX_PICTURE_BYTES = 256 << 20
_HEAD = 16
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*", b"BM", b"P5", b"P6", b"\0\0\0\x0cjP")
# Where one picture ends and the next one begins, as in what ffmpeg writes as mjpeg or image2pipe. An album is one file.
_SEAMS = (b"\xff\xd9\xff\xd8\xff", b"IEND\xaeB`\x82\x89PNG\r\n")
_ALBUM, _ALBUM_WITHIN = b"MPF\0", 1 << 17


class StandardInput:
    """The bytes of standard input, read without the lock of `sys.stdin`, which a waiting thread would hold for ever.

    Raises DetrofitError where there is none, it is a terminal, or it is empty.
    """

    name = "standard input"  # for PyAV

    def __init__(self) -> None:
        try:
            self._raw = open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)  # noqa: SIM115 - stays open
        except (AttributeError, OSError, ValueError):
            raise DetrofitError("there is no standard input here; name a file instead of '-'") from None
        if self._raw.isatty():
            raise DetrofitError("standard input is a terminal; send a picture or a video through it, as in - < FILE")
        self._head = b""
        while len(self._head) < _HEAD and (more := self._raw.read(_HEAD - len(self._head))):
            self._head += more
        if not self._head:
            raise DetrofitError("standard input is empty; send a picture or a video through it")

    def is_picture(self) -> bool:
        """Whether it starts as picture files do."""
        webp = self._head[:4] == b"RIFF" and self._head[8:12] == b"WEBP"
        return webp or self._head[4:12] == b"ftypavif" or self._head.startswith(_PICTURES)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end."""
        if self._head:
            taken, self._head = self._head[:size], self._head[size:]
            return taken
        return self._raw.read(size) or b""

    def read_picture(self) -> bytes:
        """All of it, as one picture; DetrofitError if it is larger than any picture."""
        pieces, total = [], 0
        while piece := self.read(1 << 20):
            pieces.append(piece)
            total += len(piece)
            if total > MAX_PICTURE_BYTES:
                raise _several(f"more than {MAX_PICTURE_BYTES >> 20} MB for one picture")
        content = b"".join(pieces)
        if any(seam in content for seam in _SEAMS) and _ALBUM not in content[:_ALBUM_WITHIN]:
            raise _several("several pictures")
        return content


def _several(what: str) -> DetrofitError:
    return DetrofitError(f"standard input has {what}; send a series of pictures as a video (ffmpeg -f matroska)")
