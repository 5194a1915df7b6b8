"""Reading torch's files (.pth, .pt) without running anything: tensors are made of the bytes in them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from detrofit.errors import DetrofitError
from detrofit.weights.inert_pickle import read_pickle
from detrofit.weights.old_archive import BEGINNING, OldArchive
from detrofit.weights.storages import Storage, TensorBuilder

_ZIPPED = b"PK\x03\x04"  # as torch itself tells: a directory of a zip may stand at the end of anything
_POINTER = b"version https://git-lfs"  # what a clone has in place of a large file that was not fetched
_MOST_ENTRIES = 200_000


def read_archive(file: Path) -> Any:
    """What a file of torch.save holds: plain values, tensors, and records (`Inert`) of all other objects.

    Raises DetrofitError for a file that is missing, truncated, damaged, packed, states sizes that it does not have, or
    is none of torch's.
    """
    try:
        with file.open("rb") as opened:
            beginning = opened.read(len(_POINTER))
            if beginning.startswith(BEGINNING):
                return OldArchive(opened).content()
        if beginning == _POINTER:
            raise DetrofitError("it is Git LFS's pointer to the file; run `git lfs pull` in the clone that it lies in")
        if not beginning.startswith(_ZIPPED):
            raise DetrofitError("it is damaged, or neither a file of torch nor of safetensors")
        with zipfile.ZipFile(file) as archive:
            return _Reader(archive, file.stat().st_size).content()
    except DetrofitError as error:
        raise DetrofitError(f"{file} is no readable checkpoint: {error}") from None
    except FileNotFoundError:
        raise DetrofitError(f"checkpoint {file} does not exist") from None
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, EOFError, NotImplementedError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DetrofitError(f"{file} is no readable checkpoint (damaged or truncated): {reason}") from None


class _Reader:
    """One opened zip, as torch writes since its version 1.6."""

    def __init__(self, archive: zipfile.ZipFile, file_size: int) -> None:
        self._archive, self._file_size = archive, file_size
        self._entries = {entry.filename: entry for entry in archive.infolist()}
        self._check_entries()
        pickles = [name for name in self._entries if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise DetrofitError("it is a zip without the one pickle that torch writes")
        self._folder = pickles[0].removesuffix("data.pkl")

    def content(self) -> Any:
        if self._entry("byteorder", b"little") != b"little":
            raise DetrofitError("its numbers are big-endian; save it again on a usual machine")
        builder = TensorBuilder(self._bytes_of, self._file_size)
        return read_pickle(self._entry("data.pkl"), builder.rebuild, builder.persistent)

    def _check_entries(self) -> None:
        """Torch packs nothing, so no entry grows when it is read, and all of them together fit into the file."""
        if len(self._entries) > _MOST_ENTRIES:
            raise DetrofitError(f"it has {len(self._entries)} entries, more than any checkpoint")
        for name, entry in self._entries.items():
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise DetrofitError(f"its entry '{name}' is packed, which torch never does; unpack and zip it with -0")
        if sum(entry.file_size for entry in self._entries.values()) > self._file_size:
            raise DetrofitError("its entries state more bytes than the file has")

    def _bytes_of(self, storage: Storage) -> bytes:
        return self._entry(f"data/{storage.key}")

    def _entry(self, name: str, default: bytes | None = None) -> bytes:
        path = self._folder + name
        if path not in self._entries:
            if default is None:
                raise DetrofitError(f"its entry '{name}' is missing")
            return default
        return self._archive.read(path)
