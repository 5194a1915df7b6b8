"""Finding picture files and reading their sizes, many at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from detrofit.errors import DetrofitError
from detrofit.pictures import picture_size

PICTURE_SUFFIXES = frozenset(
    (".bmp", ".jpeg", ".jpg", ".jp2", ".mpo", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
READING_THREADS = 8


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


def read_sizes(paths: Sequence[str]) -> np.ndarray:
    """Width and height of every upright picture, int32 `[N,2]`, from the headers; 0 where there is no such picture."""
    with ThreadPoolExecutor(READING_THREADS) as pool:
        return np.array(list(pool.map(_size_or_nothing, paths, chunksize=64)), np.int32).reshape(-1, 2)


def _size_or_nothing(path: str) -> tuple[int, int]:
    try:
        height, width = picture_size(path)
    except DetrofitError:
        return 0, 0
    return width, height
