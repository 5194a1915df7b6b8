"""The data check's look at picture files: each is decoded in full, once, and compared with all others."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from detrofit.data.findings import Findings
from detrofit.data.pictures import READING_THREADS
from detrofit.data.reading import Reading
from detrofit.pictures import FORMATS, ORIENTATION_TAG, decode_picture

THUMBNAIL = 16
SAME_LOOK = 0.97  # correlation of thumbnails: survives recompression, resizing and brightening
LEAST_CONTRAST = 2.0  # grey levels (standard deviation) below which thumbnails say nothing
BLOCK = 512
SMALL_SIDE = 32
ENORMOUS = 50_000_000
ENDINGS = {
    "JPEG": (".jpg", ".jpeg"),
    "MPO": (".jpg", ".jpeg", ".mpo"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
}


@dataclass(frozen=True)
class PictureFacts:
    """What one picture file is; everything but `fault` is empty where it could not be decoded."""

    fault: str = ""
    missing: bool = False
    width: int = 0
    height: int = 0
    format: str = ""
    mode: str = ""
    frames: int = 1
    rotated: bool = False
    digest: bytes = b""
    thumbnail: np.ndarray | None = None  # uint8 [THUMBNAIL, THUMBNAIL] grey


def inspect_pictures(paths: Sequence[str], progress: Callable[[int], None]) -> list[PictureFacts]:
    """`inspect_picture` of every path, several at a time; `progress` is told how many are done."""
    facts = []
    with ThreadPoolExecutor(READING_THREADS) as pool:
        try:
            for done, each in enumerate(pool.map(inspect_picture, paths), 1):
                facts.append(each)
                progress(done)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # or who interrupts waits for all that are left
            raise
    return facts


def inspect_picture(path: str) -> PictureFacts:
    """Read and decode one file. Never raises for a bad picture: what is wrong is in `fault`."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        return PictureFacts(fault=error.strerror or "cannot be read", missing=isinstance(error, FileNotFoundError))
    try:
        pixels = decode_picture(content)
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            kind, mode, frames = picture.format or "", picture.mode, getattr(picture, "n_frames", 1)
            rotated = picture.getexif().get(ORIENTATION_TAG, 1) != 1
    except Exception as error:  # readers raise nearly anything on damaged files
        return PictureFacts(fault=str(error).replace(f"the picture of {len(content):,} bytes", "it"))
    grey = Image.fromarray(pixels).convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    digest = hashlib.blake2b(content, digest_size=16).digest()
    height, width = pixels.shape[:2]
    return PictureFacts("", False, width, height, kind, mode, frames, rotated, digest, np.asarray(grey))


def check_pictures(findings: Findings, split: str, reading: Reading, facts: Sequence[PictureFacts]) -> None:
    """What is wrong with or odd about single pictures of a split."""
    for name, fact, stated in zip(reading.names(), facts, reading.stated_sizes.tolist(), strict=True):
        where = f"{split}/{name}"
        if fact.fault:
            findings.add("missing-image" if fact.missing else "unreadable-image", [_with_fault(where, fact)])
            continue
        size = f"{fact.width} x {fact.height}"
        if all(stated) and tuple(stated) != (fact.width, fact.height):
            turned = ", turned by its EXIF tag" if fact.rotated else ""
            findings.add("size-mismatch", [f"{where}: {size}{turned}, but labelled as {stated[0]} x {stated[1]}"])
        for code, odd, detail in _oddities(name, fact, size):
            if odd:
                findings.add(code, [f"{where}: {detail}" if detail else where])


def _with_fault(where: str, fact: PictureFacts) -> str:
    return where if fact.missing else f"{where}: {fact.fault}"


def _oddities(name: str, fact: PictureFacts, size: str) -> list[tuple[str, bool, str]]:
    assert fact.thumbnail is not None
    ending = os.path.splitext(name)[1].lower()
    unusual = fact.mode == "CMYK" or fact.mode.startswith(("I", "F"))
    return [
        ("small-image", min(fact.width, fact.height) < SMALL_SIDE, size),
        ("enormous-image", fact.width * fact.height > ENORMOUS, size),
        ("colour-mode", unusual, fact.mode),
        ("blank-image", int(np.ptp(fact.thumbnail)) == 0, ""),
        ("rotated-image", fact.rotated, ""),
        ("wrong-ending", ending not in ENDINGS.get(fact.format, (ending,)), fact.format),
        ("animated-image", fact.frames > 1 and fact.format != "MPO", f"{fact.frames} frames"),
    ]


@dataclass(frozen=True, eq=False)
class Gallery:
    """The decodable pictures of a split, ready to be compared."""

    split: str
    names: list[str]
    digests: list[bytes]
    vectors: np.ndarray  # float32 [N, THUMBNAIL²] of length 1, or 0 where the picture has no contrast


def build_gallery(split: str, reading: Reading, facts: Sequence[PictureFacts]) -> Gallery:
    """Digests and normalised thumbnails of a split's pictures."""
    sound = [(name, fact) for name, fact in zip(reading.names(), facts, strict=True) if not fact.fault]
    thumbnails = [fact.thumbnail for _, fact in sound if fact.thumbnail is not None]
    vectors = np.array(thumbnails, np.float32).reshape(-1, THUMBNAIL**2)
    vectors -= vectors.mean(axis=1, keepdims=True)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    flat = length < LEAST_CONTRAST * THUMBNAIL
    vectors = np.where(flat, 0, vectors / np.where(flat, 1, length)).astype(np.float32)
    return Gallery(split, [name for name, _ in sound], [fact.digest for _, fact in sound], vectors)


def check_copies(findings: Findings, galleries: Sequence[Gallery]) -> None:
    """The same picture, exact or nearly, in two splits or twice in one; each picture counts once a split."""
    for position, gallery in enumerate(galleries):
        _compare(findings, gallery, gallery, "duplicate-image", "near-duplicate-image")
        for earlier in galleries[:position]:
            _compare(findings, gallery, earlier, "leak", "near-leak")


def _compare(findings: Findings, gallery: Gallery, other: Gallery, exact_code: str, near_code: str) -> None:
    first: dict[bytes, int] = {}
    for position, digest in enumerate(other.digests):
        first.setdefault(digest, position)
    itself = gallery is other
    exact = [first.get(digest) for digest in gallery.digests]
    near = _best_matches(gallery.vectors, other.vectors, earlier_only=itself)
    for position, name in enumerate(gallery.names):
        copy, like = exact[position], int(near[position])
        if copy is not None and not (itself and copy == position):
            findings.add(exact_code, [f"{gallery.split}/{name} is {other.split}/{other.names[copy]}"])
        elif like >= 0 and not (itself and gallery.digests[like] == gallery.digests[position]):
            findings.add(near_code, [f"{gallery.split}/{name} is like {other.split}/{other.names[like]}"])


def _best_matches(vectors: np.ndarray, others: np.ndarray, earlier_only: bool) -> np.ndarray:
    """For each vector the position of the other most like it, -1 where none is alike, a block at a time."""
    best = np.full(len(vectors), -1)
    for start in range(0, len(vectors), BLOCK):
        end = min(start + BLOCK, len(vectors))
        pool = others[:end] if earlier_only else others
        if not len(pool):
            continue
        likeness = vectors[start:end] @ pool.T
        if earlier_only:
            likeness[np.arange(len(pool)) >= np.arange(start, end)[:, None]] = -1
        match = likeness.argmax(axis=1)
        alike = likeness[np.arange(end - start), match] >= SAME_LOOK
        best[start:end][alike] = match[alike]
    return best
