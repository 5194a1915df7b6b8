"""Everything that a person may call pictures, as one list of pictures to decode one after another."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from detrofit.errors import DetrofitError
from detrofit.pictures import PictureSource, decode_picture

PICTURE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".avif", ".jp2", ".ppm", ".pgm"}
)

Source: TypeAlias = PictureSource | Iterable["Source"]


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


def find_pictures(source: Source) -> list[Picture]:
    """All pictures that `source` names, files sorted by name, lists in their order; nothing is decoded.

    Args:
        source: a file, a folder (its own pictures, not those of folders in it), a glob such as `shots/**/*.jpg`, the
            bytes of a picture file, a Pillow image, an array uint8 `[H, W, 3]` in RGB, or any list of these.

    Raises:
        DetrofitError: a path does not exist, or a folder, a glob or a list holds no picture.
    """
    contents = _expand(source)
    if not contents:
        raise DetrofitError("no pictures were given; name files, folders or globs")
    in_memory = 0
    pictures = []
    for content in contents:
        if isinstance(content, Path):
            pictures.append(Picture(str(content), content))
        else:
            pictures.append(Picture(f"image {in_memory}", content))
            in_memory += 1
    return pictures


def is_single(source: Source) -> bool:
    """Whether `source` is one picture by its kind, so that one result answers it: no folder, no glob, no list."""
    if isinstance(source, (str, os.PathLike)):
        return Path(source).is_file()
    return isinstance(source, (bytes, Image.Image, np.ndarray))


def _expand(source: Source) -> list[PictureSource]:
    if isinstance(source, (str, os.PathLike)):
        return list(_expand_path(os.fspath(source)))
    if isinstance(source, (bytes, Image.Image, np.ndarray)):
        return [source]
    if isinstance(source, Iterable):
        return [content for each in source for content in _expand(each)]
    raise DetrofitError(
        f"a {type(source).__name__} is no picture; give a path, bytes, a Pillow image, an array, or a list of these"
    )


def _expand_path(text: str) -> list[Path]:
    path = Path(text)
    # A file may have the letters of a glob in its name; what exists is taken as it stands.
    if path.is_dir():
        return _pictures_in(path)
    if path.exists():
        return [path]
    if glob.has_magic(text):
        found = sorted(Path(each) for each in glob.glob(text, recursive=True))
        pictures = [each for each in found if _is_picture(each)]
        if not pictures:
            raise DetrofitError(f"no picture matches '{text}'; check the pattern, and quote it in a shell")
        return pictures
    raise DetrofitError(f"no file or folder at '{text}'; check the path")


def _pictures_in(folder: Path) -> list[Path]:
    pictures = sorted(each for each in folder.iterdir() if _is_picture(each))
    if pictures:
        return pictures
    if any(_is_picture(each) for each in folder.rglob("*")):
        raise DetrofitError(
            f"the pictures of '{folder}' lie in folders of it; give '{folder / '**' / '*'}' to find them"
        )
    raise DetrofitError(f"no pictures in the folder '{folder}'; known are {', '.join(sorted(PICTURE_SUFFIXES))}")


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()
