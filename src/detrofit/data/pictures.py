"""Finding picture files, by folder or list, and reading their sizes, many at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from detrofit.data.index import DetectionIndex
from detrofit.errors import DetrofitError
from detrofit.pictures import FORMATS, ORIENTATION_TAG, PICTURE_SUFFIXES, SIDEWAYS_ORIENTATIONS

READING_THREADS = 8
PROBED_NAMES = 20  # pictures that are looked for to find their folder: the first ones may be missing
PNG_SIGNATURE_LENGTH, PNG_CHECKSUM_LENGTH = 8, 4
TIFF_WIDTH_TAG, TIFF_HEIGHT_TAG = 256, 257
ORIENTATION_KEYWORDS = (b"XML:com.adobe.xmp", b"Raw profile type")  # of text chunks that may tell it instead of eXIf


def is_picture(name: str) -> bool:
    """Whether a file name ends as picture files do."""
    return os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES


def list_files(folder: str) -> list[str]:
    """Paths of all files below `folder`, relative to it, with forward slashes, sorted; hidden ones are passed over."""
    found: list[str] = []
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = os.path.relpath(place, folder)
        prefix = "" if inside == "." else inside.replace(os.sep, "/") + "/"
        found += [prefix + name for name in files if not name.startswith(".")]
    return sorted(found)


def list_pictures(folder: str) -> list[str]:
    """Paths of all picture files below `folder`, relative to it, sorted."""
    return [name for name in list_files(folder) if is_picture(name)]


def portable_name(name: str, folder: str) -> str:
    """A file name in a folder that a program under Windows may have written: its backslashes part folders.

    A file that bears such a name as it is, as other systems allow, keeps it.
    """
    if "\\" not in name or os.path.exists(os.path.join(folder, name)):
        return name
    return name.replace("\\", "/")


def folder_with_most(folders: Sequence[Path], names: Sequence[str]) -> str:
    """The folder that holds most of the first of these files; the first folder where none holds any."""

    def held(folder: Path) -> int:
        return sum((folder / portable_name(name, str(folder))).is_file() for name in names[:PROBED_NAMES])

    return str(max(folders, key=held))


def missing_pictures(index: DetectionIndex) -> list[int]:
    """The positions of pictures that do not exist; each folder is listed once, which is faster than asking for each."""
    listed: dict[str, frozenset[str]] = {}
    missing = []
    for position, name in enumerate(index.names()):
        path = os.path.join(index.root, name)
        folder, file = os.path.split(path)
        if folder not in listed:
            listed[folder] = frozenset(os.listdir(folder)) if os.path.isdir(folder) else frozenset()
        if file not in listed[folder] and not os.path.exists(path):  # which may not care about upper case
            missing.append(position)
    return missing


def read_lines(path: Path, kind: str) -> list[str]:
    """The lines of a text file that are not empty; DetrofitError, telling what they should be, where it is no UTF-8."""
    text: str | None
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        text = None
    if text is None or "\0" in text:  # as in UTF-16 without its mark; no name has it
        raise DetrofitError(f"{path} should be a text file in UTF-8 with one {kind} a line")
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_sizes(paths: Sequence[str]) -> np.ndarray:
    """Width and height of every upright picture, int32 `[N,2]`, from the headers; 0 where there is no such picture."""
    with ThreadPoolExecutor(READING_THREADS) as pool:
        return np.array(list(pool.map(_size_or_nothing, paths, chunksize=64)), np.int32).reshape(-1, 2)


def _size_or_nothing(path: str) -> tuple[int, int]:
    try:
        with Image.open(path, formats=FORMATS) as picture:
            width, height = _stored_size(picture)
            # Pillow decodes all of a PNG to look for its orientation, so that is asked for only where there may be one.
            asked = picture.format != "PNG" or _png_may_be_turned(path)
            sideways = asked and picture.getexif().get(ORIENTATION_TAG) in SIDEWAYS_ORIENTATIONS
    except Exception:  # readers raise nearly anything on damaged files
        return 0, 0
    return (height, width) if sideways else (width, height)


def _stored_size(picture: Image.Image) -> tuple[int, int]:
    """Width and height before any turning; of a TIFF newer versions of Pillow tell those after it at once."""
    tags = getattr(picture, "tag_v2", {})
    width, height = picture.size
    return int(tags.get(TIFF_WIDTH_TAG, width)), int(tags.get(TIFF_HEIGHT_TAG, height))


def _png_may_be_turned(path: str) -> bool:
    with open(path, "rb", buffering=0) as file:
        file.seek(PNG_SIGNATURE_LENGTH)
        while len(head := file.read(8)) == 8:
            length, kind = int.from_bytes(head[:4], "big"), head[4:]
            start = file.read(min(length, 20)) if kind in (b"tEXt", b"zTXt", b"iTXt") else b""
            if kind == b"eXIf" or start.startswith(ORIENTATION_KEYWORDS):
                return True
            file.seek(length + PNG_CHECKSUM_LENGTH - len(start), 1)
    return False
