"""Reading safetensors files, and writing them whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from detrofit.files import atomic_write
from detrofit.weights.storages import WEIGHT_TYPES


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name; ValueError in one line for one that is missing, damaged or lies."""
    try:
        tensors = safetensors.torch.load_file(file)
    # The library's own error, and torch's for shapes of no elements that are larger than it can count.
    except (safetensors.SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
        raise ValueError(str(error).partition("\n")[0]) from None
    for name, tensor in tensors.items():
        if tensor.dtype not in WEIGHT_TYPES:
            raise ValueError(f"'{name:.100}' is of the type {tensor.dtype}, which no weight has")
    return tensors


def write_tensors(file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors by name with metadata; DetrofitError where the disk is full or the folder cannot be written."""
    plain = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    with atomic_write(file) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        try:
            safetensors.torch.save_file(plain, temporary, dict(metadata))
        except safetensors.SafetensorError as error:  # what the library makes of an OSError
            raise OSError(str(error)) from error
        temporary.chmod(mode)  # as of any new file; the library makes one that nobody else may read
