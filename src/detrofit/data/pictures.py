"""Finding picture files and reading their headers, many at a time."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

PICTURE_SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".jp2", ".mpo", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))
READING_THREADS = 8
EXIF_ORIENTATION = 0x0112
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange width and height


@dataclass(frozen=True)
class Header:
    """What the first bytes of a picture file say; sizes are those after the EXIF rotation, 0 where unreadable."""

    width: int = 0
    height: int = 0
    fault: str = ""


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


def read_header(path: str) -> Header:
    """A picture's size without decoding its pixels. Never raises: what went wrong is in `fault`."""
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            sideways = picture.getexif().get(EXIF_ORIENTATION) in SIDEWAYS
    except FileNotFoundError:
        return Header(fault="missing")
    except UnidentifiedImageError:
        return Header(fault="not a picture in any known format")
    except Image.DecompressionBombError:
        return Header(fault=f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels")
    except Exception as error:  # decoders raise all kinds of errors on damaged files
        return Header(fault=" ".join(str(error).split()) or type(error).__name__)
    return Header(height, width) if sideways else Header(width, height)


def read_headers(paths: Sequence[str]) -> list[Header]:
    """`read_header` of every path, in their order, several at a time."""
    with warnings.catch_warnings(), ThreadPoolExecutor(READING_THREADS) as pool:
        warnings.simplefilter("ignore")  # of damaged EXIF and of large pictures: the check reports both
        return list(pool.map(read_header, paths, chunksize=64))
