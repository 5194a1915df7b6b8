"""Reading torch's zip files (.pth, .pt) without running anything: tensors are made of the bytes in the archive."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detrofit.errors import DetrofitError
from detrofit.weights.inert_pickle import Inert, Named, read_pickle

_STORAGES: Mapping[str, torch.dtype] = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_TENSOR = ("_rebuild_tensor", "_rebuild_tensor_v2")
_PARAMETER = ("_rebuild_parameter", "_rebuild_parameter_with_state")
_MOST_ENTRIES = 200_000
_MOST_VIEWED = 8  # times the size of the file that all tensors together may show, by sharing bytes
_MOST_NAMES, _LONGEST_NAME = 50_000, 500  # of modules and tensors inside one module


@dataclass(frozen=True)
class _Storage:
    """Where the bytes of tensors lie in an archive; `length` counts elements."""

    key: str
    dtype: torch.dtype
    length: int


def is_archive(file: Path) -> bool:
    """Whether a file is a zip, as torch writes since its version 1.6."""
    return zipfile.is_zipfile(file)


def read_archive(file: Path) -> Any:
    """What a torch file holds: plain values, tensors, and records (`Inert`) of all other objects.

    Raises DetrofitError for a file that is truncated, damaged, packed, or states sizes that it does not have.
    """
    try:
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
    """One opened archive."""

    def __init__(self, archive: zipfile.ZipFile, file_size: int) -> None:
        self._archive = archive
        self._entries = {entry.filename: entry for entry in archive.infolist()}
        self._check_entries(file_size)
        pickles = [name for name in self._entries if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise DetrofitError("it is a zip without the one pickle that torch writes")
        self._folder = pickles[0].removesuffix("data.pkl")
        self._bytes: dict[str, bytearray] = {}
        self._left = _MOST_VIEWED * file_size

    def content(self) -> Any:
        if self._entry("byteorder", b"little") != b"little":
            raise DetrofitError("its numbers are big-endian; save it again on a usual machine")
        return read_pickle(self._entry("data.pkl"), self._rebuild, self._storage)

    def _check_entries(self, file_size: int) -> None:
        """Torch packs nothing, so no entry grows when it is read, and all of them together fit into the file."""
        if len(self._entries) > _MOST_ENTRIES:
            raise DetrofitError(f"it has {len(self._entries)} entries, more than any checkpoint")
        for name, entry in self._entries.items():
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise DetrofitError(f"its entry '{name}' is packed, which torch never does; unpack and zip it with -0")
        if sum(entry.file_size for entry in self._entries.values()) > file_size:
            raise DetrofitError("its entries state more bytes than the file has")

    def _entry(self, name: str, default: bytes | None = None) -> bytes:
        path = self._folder + name
        if path not in self._entries:
            if default is None:
                raise DetrofitError(f"its entry '{name}' is missing")
            return default
        return self._archive.read(path)

    def _storage(self, identifier: Any) -> Any:
        if not (isinstance(identifier, tuple) and len(identifier) >= 5 and identifier[0] == "storage"):
            raise DetrofitError("it keeps something else than tensors outside its pickle")
        kind, key, length = identifier[1], identifier[2], identifier[4]
        dtype = _STORAGES.get(kind.name) if isinstance(kind, Named) and kind.module.startswith("torch") else None
        if dtype is None or not isinstance(key, str) or not _is_count(length):
            return Inert(kind, identifier[2:])  # a storage of a kind that no weight has
        return _Storage(key, dtype, length)

    def _rebuild(self, named: Named, arguments: tuple[Any, ...]) -> Any:
        if (named.module, named.name) == ("collections", "OrderedDict"):
            return {}
        if named.module != "torch._utils":
            return NotImplemented
        if named.name in _PARAMETER and arguments:
            return arguments[0]
        if named.name in _TENSOR and len(arguments) >= 4 and isinstance(arguments[0], _Storage):
            return self._tensor(*arguments[:4])
        return NotImplemented

    def _tensor(self, storage: _Storage, offset: Any, size: Any, stride: Any) -> Tensor:
        if not (_is_count(offset) and _are_counts(size) and _are_counts(stride) and len(size) == len(stride)):
            raise DetrofitError("a tensor in it has no proper shape")
        elements = math.prod(size)
        last = offset + sum((length - 1) * step for length, step in zip(size, stride)) if elements else offset - 1
        if last >= storage.length or elements > storage.length:
            raise DetrofitError(f"a tensor of shape {size} in it states more numbers than it has")
        self._left -= elements * storage.dtype.itemsize
        if self._left < 0:
            raise DetrofitError("its tensors show the same bytes again and again")
        if not elements:
            return torch.empty(size, dtype=storage.dtype)
        flat = torch.frombuffer(self._storage_bytes(storage), dtype=storage.dtype, count=storage.length)
        return flat.as_strided(size, stride, offset)

    def _storage_bytes(self, storage: _Storage) -> bytearray:
        if storage.key not in self._bytes:
            self._bytes[storage.key] = bytearray(self._entry(f"data/{storage.key}"))
        content = self._bytes[storage.key]
        if len(content) < storage.length * storage.dtype.itemsize:
            raise DetrofitError(f"storage '{storage.key}' has fewer bytes than stated")
        return content


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**48


def _are_counts(values: Any) -> bool:
    return isinstance(values, tuple) and len(values) <= 16 and all(_is_count(value) for value in values)


def module_tensors(module: Inert) -> dict[str, Tensor]:
    """The parameters and buffers of a pickled torch module by their names, as its `state_dict` would give them.

    Raises DetrofitError for a module that contains itself, or more than any detector does.
    """
    tensors: dict[str, Tensor] = {}
    for name, inner in modules_of(module).items():
        for group in ("_parameters", "_buffers"):
            for key, value in _plain_dict(inner, group).items():
                if isinstance(value, Tensor):
                    tensors[_inside(name, key)] = value
        if len(tensors) > _MOST_NAMES:
            raise DetrofitError("its modules have more tensors than any detector's")
    return tensors


def modules_of(module: Inert) -> dict[str, Inert]:
    """A pickled torch module and all inside it by name, in the order of its `named_modules`."""
    found: dict[str, Inert] = {}
    waiting: list[tuple[str, Inert]] = [("", module)]
    while waiting:
        name, inner = waiting.pop()
        found[name] = inner
        inside = [(key, value) for key, value in _plain_dict(inner, "_modules").items() if isinstance(value, Inert)]
        waiting += [(_inside(name, key), value) for key, value in reversed(inside)]
        if len(found) + len(waiting) > _MOST_NAMES:
            raise DetrofitError("it has more modules than any detector")
    return found


def _inside(name: str, key: Any) -> str:
    inside = f"{name}.{key}" if name else str(key)
    if len(inside) > _LONGEST_NAME:
        raise DetrofitError("its modules are nested deeper than any detector's")
    return inside


def _plain_dict(module: Inert, key: str) -> dict[Any, Any]:
    value = module.state.get(key) if isinstance(module.state, dict) else None
    return value if isinstance(value, dict) else {}
