"""Readings of data sets kept in the user's cache folder, found again by a digest of their content."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from detrofit.errors import DetrofitError
from detrofit.files import atomic_write, cache_folder

FORMAT = 2  # raise when the meaning of a stored array changes: older entries are then never found
KEPT_ENTRIES = 100


def digest_of_bytes(content: bytes, *more: str) -> str:
    """A digest of a file's bytes and of further strings that decide what is read from it."""
    digest = hashlib.sha256(content)
    for each in more:
        digest.update(b"\0" + os.fsencode(each))
    return digest.hexdigest()[:40]


def digest_of_files(paths: Iterable[str], *more: str) -> str:
    """A digest of names, sizes and modification times: content as far as a listing shows it."""
    digest = hashlib.sha256("\0".join(more).encode())
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            digest.update(b"\0absent\0" + os.fsencode(path))
            continue
        digest.update(b"\0" + os.fsencode(path) + f"\0{status.st_size}\0{status.st_mtime_ns}".encode())
    return digest.hexdigest()[:40]


def load(key: str) -> dict[str, np.ndarray] | None:
    """The arrays stored under `key`, or None: not stored, damaged, or not readable."""
    try:
        with np.load(_path(key), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError):
        return None


def store(key: str, arrays: dict[str, np.ndarray]) -> None:
    """Keep arrays under `key`. A cache folder that cannot be written only costs time, so it is no error."""
    target = _path(key)
    try:
        with atomic_write(target) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        _forget_oldest(target.parent)
    except (DetrofitError, OSError):
        return


def _path(key: str) -> Path:
    return cache_folder("data") / f"{key}-{FORMAT}.npz"


def _forget_oldest(folder: Path) -> None:
    entries = sorted(folder.glob("*.npz"), key=lambda entry: entry.stat().st_mtime, reverse=True)
    for entry in entries[KEPT_ENTRIES:]:
        entry.unlink(missing_ok=True)
