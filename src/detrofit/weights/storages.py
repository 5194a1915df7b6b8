"""Tensors made of the bytes in a file of torch, from what its pickle says of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from detrofit.errors import DetrofitError
from detrofit.weights.inert_pickle import Inert, Named

_TYPES: Mapping[str, torch.dtype] = {
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
WEIGHT_TYPES = frozenset(_TYPES.values())
_TENSOR = ("_rebuild_tensor", "_rebuild_tensor_v2")
_PARAMETER = ("_rebuild_parameter", "_rebuild_parameter_with_state")
_MOST_VIEWED = 8  # times the size of the file that all tensors together may show, by sharing bytes


@dataclass(frozen=True)
class Storage:
    """A run of numbers in a file; `length` counts them, `size` their bytes."""

    key: str
    dtype: torch.dtype
    length: int

    @property
    def size(self) -> int:
        return self.length * self.dtype.itemsize


class TensorBuilder:
    """What `read_pickle` needs to make tensors, and nothing else that torch has.

    Args:
        read: the bytes of a storage.
        file_size: in bytes; a small file cannot become large tensors.

    Its methods raise DetrofitError for what lies about its size. `storages` are those that the pickle names, by key.
    """

    def __init__(self, read: Callable[[Storage], bytes], file_size: int) -> None:
        self._read, self._left = read, _MOST_VIEWED * file_size
        self._bytes: dict[str, bytearray] = {}
        self.storages: dict[str, Storage] = {}

    def persistent(self, identifier: Any) -> Any:
        """What lies outside the pickle: a storage, or (in old files) a class together with its source."""
        if isinstance(identifier, tuple) and len(identifier) >= 2 and identifier[0] == "module":
            return identifier[1]
        if not (isinstance(identifier, tuple) and len(identifier) >= 5 and identifier[0] == "storage"):
            raise DetrofitError("it keeps something else than tensors outside its pickle")
        kind, key, length = identifier[1], identifier[2], identifier[4]
        if any(view is not None for view in identifier[5:]):
            raise DetrofitError("its storages are views of others, which torch has not written since 2017")
        dtype = _TYPES.get(kind.name) if isinstance(kind, Named) and kind.module.startswith("torch") else None
        if dtype is None or not isinstance(key, str) or not _is_count(length):
            return Inert(kind, identifier[2:])  # a storage of a kind that no weight has
        return self.storages.setdefault(key, Storage(key, dtype, length))

    def rebuild(self, named: Named, arguments: tuple[Any, ...]) -> Any:
        """A tensor or dictionary from a call of torch's or Python's that makes one; NotImplemented for others."""
        if (named.module, named.name) == ("collections", "OrderedDict"):
            return {}
        if named.module != "torch._utils":
            return NotImplemented
        if named.name in _PARAMETER and arguments:
            return arguments[0]
        if named.name in _TENSOR and len(arguments) >= 4 and isinstance(arguments[0], Storage):
            return self._tensor(*arguments[:4])
        return NotImplemented

    def _tensor(self, storage: Storage, offset: Any, size: Any, stride: Any) -> Tensor:
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
        flat = torch.frombuffer(self._content(storage), dtype=storage.dtype, count=storage.length)
        return flat.as_strided(size, stride, offset)

    def _content(self, storage: Storage) -> bytearray:
        if storage.key not in self._bytes:
            self._bytes[storage.key] = bytearray(self._read(storage))
        if len(self._bytes[storage.key]) < storage.size:
            raise DetrofitError(f"storage '{storage.key}' has fewer bytes than stated")
        return self._bytes[storage.key]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**48


def _are_counts(values: Any) -> bool:
    return isinstance(values, tuple) and len(values) <= 16 and all(_is_count(value) for value in values)
