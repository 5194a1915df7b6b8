"""Everything that a person may call pictures, as one list of what to decode one after another; nothing is opened."""

from __future__ import annotations

import glob
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import numpy as np
from PIL import Image

from detrofit.errors import DetrofitError, nearest
from detrofit.pictures import PICTURE_SUFFIXES, PictureSource, decode_picture

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".wmv", ".flv", ".3gp",
     ".ogv", ".mjpeg", ".mjpg", ".h264", ".h265", ".hevc", ".y4m"}
)  # fmt: skip
SCHEMES = ("http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "srt", "tcp")
STANDARD_INPUT = "-"
# What can be gone through, too, but gives numbers or lines and no pictures; tensors are told by `__array__`.
_NO_LISTS = (bytearray, memoryview, io.IOBase, Mapping)

Source: TypeAlias = PictureSource | int | Iterable["Source"]


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture that is not decoded yet.

    Attributes:
        name: its path as found, or `image 0`, `image 1` ... for pictures in memory, counted over the whole source.
        content: the path, the bytes of a file, a Pillow image or an array.
    """

    name: str
    content: PictureSource

    def decode(self) -> np.ndarray:
        """uint8 `[H, W, 3]`, red green blue, upright; `DetrofitError` names the file that cannot be read."""
        return decode_picture(self.content)


@dataclass(frozen=True)
class Video:
    """What gives frames: a video file, a stream of the network, a camera, or standard input (also for one picture).

    Attributes:
        name: the path, `camera 0`, `standard input`, or the address without its password.
        target: the path, the address, or the number of the camera.
        kind: which of them it is.
    """

    name: str
    target: str
    kind: Literal["file", "address", "camera", "input"]


def find_sources(source: Source) -> list[Picture | Video]:
    """All that `source` names, files sorted by name, lists in their order; nothing is decoded.

    Args:
        source: a picture or video file, a folder (its own pictures and videos, not those of folders in it), a glob such
            as `shots/**/*.jpg`, the bytes of a picture file, a Pillow image, an array uint8 `[H, W, 3]` in RGB, the
            number of a camera, an address such as `rtsp://host/stream`, `-` for standard input, or any list of these.

    Raises:
        DetrofitError: a path does not exist, an address is of no known kind, or a folder, a glob or a list is empty.
    """
    found = _expand(source)
    if not found:
        raise DetrofitError("no pictures were given; name files, folders or globs")
    if sum(isinstance(each, Video) and each.kind == "input" for each in found) > 1:
        raise DetrofitError("standard input (-) was named twice, but can be read once")
    in_memory = 0
    sources: list[Picture | Video] = []
    for each in found:
        if isinstance(each, Video):
            sources.append(each)
        elif isinstance(each, Path):
            sources.append(Video(str(each), str(each), "file") if is_video(each) else Picture(str(each), each))
        else:
            sources.append(Picture(f"image {in_memory}", each))
            in_memory += 1
    return sources


def find_pictures(source: Source) -> list[Picture]:
    """As `find_sources`, where only pictures will do; `DetrofitError` names what is a video."""
    pictures = []
    for each in find_sources(source):
        if isinstance(each, Video):
            raise DetrofitError(f"{each.name} gives many pictures; take them with `for found in detector.stream(...)`")
        pictures.append(each)
    return pictures


def is_single(source: Source) -> bool:
    """Whether `source` is one picture by its kind, so that one result answers it: no folder, no glob, no list."""
    if isinstance(source, (str, os.PathLike)):
        return os.path.isfile(source)  # pathlib raises for long addresses, as for all that no file can be called
    return isinstance(source, (bytes, Image.Image, np.ndarray))


def is_video(path: Path) -> bool:
    """Whether a file name ends as video files do."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def _expand(source: Source) -> list[PictureSource | Video]:
    if isinstance(source, (str, os.PathLike)):
        return list(_expand_text(os.fspath(source)))
    if isinstance(source, (bytes, Image.Image, np.ndarray)):
        return [source]
    if isinstance(source, int) and not isinstance(source, bool):
        return [_camera(source)]
    if isinstance(source, Iterable) and not (hasattr(source, "__array__") or isinstance(source, _NO_LISTS)):
        return [content for each in source for content in _expand(each)]
    raise DetrofitError(
        f"a {type(source).__name__} is no picture; give a path, bytes, a Pillow image, an array, the number of a "
        "camera, an address, or a list of these"
    )


def _expand_text(text: str) -> list[Path] | list[Video]:
    # A file may have the letters of a glob in its name, or be called 0; what exists is taken as it stands.
    if os.path.isdir(text):
        return _inside(Path(text))
    if os.path.exists(text):
        return [Path(text)]
    if text == STANDARD_INPUT:
        return [Video("standard input", text, "input")]
    if "://" in text:
        return [_address(text)]
    if text.isdecimal():
        return [_camera(int(text))]
    if glob.has_magic(text):
        return _matching(text)
    raise DetrofitError(f"no file or folder at '{text}'; check the path")


def _camera(number: int) -> Video:
    if number < 0:
        raise DetrofitError(f"there is no camera {number}; cameras are counted from 0")
    return Video(f"camera {number}", str(number), "camera")


def _address(text: str) -> Video:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise DetrofitError(f"'{text}' is no address that can be read ({error}); check it") from None
    if parts.scheme.lower() not in SCHEMES:
        close = nearest(parts.scheme, SCHEMES)
        raise DetrofitError(f"nothing reads '{parts.scheme}://' addresses; known are {', '.join(SCHEMES)}{close}")
    if not host:
        raise DetrofitError(f"'{text}' names no host; an address is like rtsp://host:554/stream")
    shown = f"[{host}]" if ":" in host else host
    shown = f"{shown}:{port}" if port else shown
    if parts.username:
        shown = f"{parts.username}@{shown}"
    return Video(urlunsplit(parts._replace(netloc=shown)), text, "address")


def _matching(pattern: str) -> list[Path]:
    found = sorted(Path(each) for each in glob.glob(pattern, recursive=True))
    kept = [each for each in found if _is_readable(each)]
    if not kept:
        raise DetrofitError(f"no picture matches '{pattern}'; check the pattern, and quote it in a shell")
    return kept


def _inside(folder: Path) -> list[Path]:
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise DetrofitError(f"the folder '{folder}' cannot be read: {error.strerror}") from None
    found = [each for each in inside if _is_readable(each)]
    if found:
        return found
    if any(_holds_pictures(each) for each in inside):
        raise DetrofitError(
            f"the pictures of '{folder}' lie in folders of it; give '{folder / '**' / '*'}' to find them"
        )
    raise DetrofitError(f"no pictures in the folder '{folder}'; known are {', '.join(sorted(PICTURE_SUFFIXES))}")


def _holds_pictures(folder: Path) -> bool:
    """Whether pictures lie in it; folders in it are not gone through, which might take for ever."""
    try:
        return folder.is_dir() and any(_is_readable(each) for each in folder.iterdir())
    except OSError:
        return False


def _is_readable(path: Path) -> bool:
    return (path.suffix.lower() in PICTURE_SUFFIXES or is_video(path)) and path.is_file()
