"""Decoding of pictures, the same for training, evaluation and a shipped model (imported by every room)."""

from __future__ import annotations

import io
import os
import re
import warnings
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, ImageOps

from detrofit.errors import DetrofitError

PictureSource: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | np.ndarray

MAX_PIXELS = 178_956_970  # Pillow's own limit: half a gigabyte in RGB
# Pillow would try some forty readers, one of which (EPS) runs another program; pictures come in these. AVIF is the last
# one, since not every Pillow has it, and says so by a KeyError.
FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "PPM", "WEBP", "TIFF", "JPEG2000", "AVIF")
# How the names of such files end, where folders are searched for them.
PICTURE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".mpo", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
ORIENTATION_TAG = 0x0112
SIDEWAYS_ORIENTATIONS = (5, 6, 7, 8)  # EXIF values that exchange height and width
BACKGROUND = (255, 255, 255)  # what shows through transparent pixels
TIFF_TILE_TAGS = (0x0142, 0x0143)  # width and height, which may be larger than the picture's
# Of a progressive JPEG, each of which goes through all of the picture, however few bytes it has; programs write about
# ten.
MAX_SCANS = 100
# In a JPEG file, what begins a segment with its length after it; inside a scan 0 and the restarts mean nothing.
_SEGMENT = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])")
_SCAN, _END = b"\xda", b"\xd9"

# Pillow warns from half of its limit on; here a picture is either read or refused in one line.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def decode_picture(
    source: PictureSource, at_least: tuple[int, int] | None = None, max_pixels: int | None = None
) -> np.ndarray:
    """The picture as uint8 `[H, W, 3]`, red green blue, upright; to be read only, since a copy takes a millisecond.

    Accepts a path, the bytes of a file, a Pillow image, or an array uint8 `[H, W]`, `[H, W, 3]` (red, green, blue) or
    `[H, W, 4]`, or uint16 `[H, W]`. EXIF rotation is applied; of an animation the first frame is taken; CMYK, grey and
    palette pictures become RGB; 16-bit grey keeps its high byte; transparent pixels are laid on white.

    With `at_least` (height, width) a JPEG may be decoded at a half, a quarter or an eighth of its size, never smaller
    than that: several times faster, and reproducible, but a little softer than decoding in full and shrinking after.

    Raises DetrofitError, naming the file, if it is missing, damaged, no picture, or of more than `max_pixels` pixels
    (default: MAX_PIXELS) or MAX_SCANS scans, which is known before anything is decoded.
    """
    name = _name_of(source)
    if isinstance(source, np.ndarray):
        if source.dtype == np.uint8 and source.ndim == 3 and source.shape[2] == 3 and source.size:
            return source
        return _upright_rgb(_from_array(source), name)
    if isinstance(source, Image.Image):
        return _upright_rgb(source, name)
    with _open(source, name, max_pixels or MAX_PIXELS) as image:
        if at_least is not None:
            image.draft(None, _draft_size(image, at_least))
        return _upright_rgb(image, name)


def _open(source: str | os.PathLike[str] | bytes, name: str, max_pixels: int) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
        excess = _excess(image, max_pixels)
    except FileNotFoundError:
        raise DetrofitError(f"{name}: no such file; check the path or restore the picture") from None
    except IsADirectoryError:
        raise DetrofitError(f"{name} is a folder, not a picture; name the files in it") from None
    except PermissionError:
        raise DetrofitError(f"{name} may not be read; give yourself permission to read it") from None
    except Image.DecompressionBombError:
        raise DetrofitError(f"{name} has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels; shrink it") from None
    except (Image.UnidentifiedImageError, KeyError):
        raise DetrofitError(f"{name} is not a picture in a known format; remove or replace it") from None
    except MemoryError:
        raise
    except Exception as error:  # readers raise nearly anything on damaged headers
        raise _damaged(name, error) from None
    if excess is not None:
        image.close()
        raise DetrofitError(f"{name} has {excess}; shrink it")
    return image


def _excess(image: Any, max_pixels: int) -> str | None:
    """What there is too much of to decode it; None if nothing."""
    width, height = image.size
    if width * height > max_pixels:
        return f"{width} x {height} pixels, more than {max_pixels:,}"
    width, height = (getattr(image, "tag_v2", {}).get(tag, 1) for tag in TIFF_TILE_TAGS)
    if not (isinstance(width, int) and isinstance(height, int) and width * height <= max_pixels):
        return f"tiles of {width} x {height} pixels, more than {max_pixels:,}"
    if "progressive" in image.info and _has_many_scans(image.fp):
        return f"more than {MAX_SCANS} scans"
    return None


def _has_many_scans(file: Any) -> bool:
    """Whether an open JPEG file has more than MAX_SCANS; it is left where it was."""
    place = file.tell()
    file.seek(0)
    content = file.read()
    file.seek(place)
    scans, start = 0, 2
    while scans <= MAX_SCANS and (segment := _SEGMENT.search(content, start)) and segment[1] != _END:
        scans += segment[1] == _SCAN
        start = segment.end() + int.from_bytes(content[segment.end() : segment.end() + 2], "big")
    return scans > MAX_SCANS


def _upright_rgb(image: Image.Image, name: str) -> np.ndarray:
    try:
        image.load()
        if not all(image.size):
            raise DetrofitError(f"{name} has {image.width} x {image.height} pixels, so there is nothing in it")
        if image.getexif().get(ORIENTATION_TAG, 1) != 1:
            image = ImageOps.exif_transpose(image)
        return np.asarray(_to_rgb(image, name))
    except (DetrofitError, MemoryError):
        raise
    except Exception as error:  # as above, for damaged contents
        raise _damaged(name, error) from None


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode == "F":
        raise DetrofitError(f"{name} has floating-point values of unknown range; save it with 8 or 16 bits a channel")
    if image.mode.startswith("I"):
        return _high_byte(image).convert("RGB")
    if image.has_transparency_data:
        canvas = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        return Image.alpha_composite(canvas, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _high_byte(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.dtype.kind != "u":  # of 32 bits, of which only these are a picture's
        values = values.clip(0, 65535)
    return Image.fromarray((values >> 8).astype(np.uint8))


def _from_array(array: np.ndarray) -> Image.Image:
    grey = array.ndim == 2 and array.dtype in (np.dtype(np.uint8), np.dtype(np.uint16))
    with_alpha = array.ndim == 3 and array.shape[2] == 4 and array.dtype == np.uint8
    if not array.size or not (grey or with_alpha):
        raise DetrofitError(
            f"an array of {array.dtype} {list(array.shape)} is not a picture; give uint8 [height, width, 3] in RGB"
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _is_sideways(image: Image.Image) -> bool:
    return image.getexif().get(ORIENTATION_TAG) in SIDEWAYS_ORIENTATIONS


def _draft_size(image: Image.Image, at_least: tuple[int, int]) -> tuple[int, int]:
    height, width = at_least
    return (height, width) if _is_sideways(image) else (width, height)


def _name_of(source: PictureSource) -> str:
    if isinstance(source, bytes):
        return f"the picture of {len(source):,} bytes"
    if isinstance(source, (np.ndarray, Image.Image)):
        return "the given picture"
    return str(Path(source))


def _damaged(name: str, error: Exception) -> DetrofitError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DetrofitError(f"{name} is damaged ({reason}); remove or replace it")
