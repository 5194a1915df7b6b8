"""Files that torch wrote before its version 1.6: pickles one after another, then the numbers of each storage."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import Any, BinaryIO

from detrofit.errors import DetrofitError
from detrofit.weights.inert_pickle import LONGEST, read_pickle
from detrofit.weights.storages import Storage, TensorBuilder

BEGINNING = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # a number, pickled, that marks such files
_COUNT = 8  # bytes before the numbers of a storage that say how many there are


class OldArchive:
    """One opened file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._size = file, file.seek(0, os.SEEK_END)
        self._positions: dict[str, int] = {}

    def content(self) -> Any:
        """What the file holds, as `read_archive` returns it."""
        self._file.seek(len(BEGINNING))
        pickles = io.BytesIO(self._file.read(LONGEST))
        read_pickle(pickles)  # the version of this form
        machine = read_pickle(pickles)
        if not isinstance(machine, dict) or machine.get("little_endian") is not True:
            raise DetrofitError("its numbers are big-endian; save it again on a usual machine")
        start = pickles.tell()
        builder = TensorBuilder(self._bytes_of, self._size)
        read_pickle(pickles, persistent=builder.persistent)  # for the storages: where they lie is said behind it
        keys = read_pickle(pickles)
        self._find(keys, builder.storages, len(BEGINNING) + pickles.tell())
        pickles.seek(start)
        return read_pickle(pickles, builder.rebuild, builder.persistent)

    def _find(self, keys: Any, storages: Mapping[str, Storage], position: int) -> None:
        for key in keys if isinstance(keys, list) else [None]:
            storage = storages.get(key) if isinstance(key, str) else None
            self._file.seek(position)
            length = int.from_bytes(self._file.read(_COUNT), "little")
            if storage is None or length != storage.length:
                raise DetrofitError("its storages are not those that its pickle names")
            self._positions[storage.key] = position + _COUNT
            position += _COUNT + storage.size
        if position > self._size:
            raise DetrofitError("it ends before its last storage; it is truncated")

    def _bytes_of(self, storage: Storage) -> bytes:
        if storage.key not in self._positions:
            raise DetrofitError(f"its storage '{storage.key}' is missing")
        self._file.seek(self._positions[storage.key])
        return self._file.read(storage.size)
