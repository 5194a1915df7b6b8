"""Reading checkpoints of other programs, without running anything that is in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from detrofit.errors import DetrofitError


def read_checkpoint(file: Path) -> Any:
    """What a file of torch or safetensors holds; DetrofitError for a file that is missing, damaged or neither.

    Pickled objects other than tensors and plain values are refused, never executed.
    """
    try:
        if file.suffix == ".safetensors":
            return safetensors.torch.load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DetrofitError(f"checkpoint {file} does not exist") from None
    except MemoryError:
        raise
    except Exception as error:  # readers raise nearly anything on damaged files
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DetrofitError(f"{file} is no readable checkpoint (damaged or of another kind): {reason}") from None


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, also where they lie under `state_dict`."""
    content = read_checkpoint(file)
    content = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise DetrofitError(f"{file} holds no plain mapping of names to tensors")
    return dict(content)


def convert_by_order(state: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` under the names of `reference`, for two writings of one network that differ in names alone.

    Tensors are paired in their order, without batch norms' counters. Raises DetrofitError at the first pair whose
    shapes differ, or where one has more tensors.
    """
    given, wanted = (
        [(name, tensor) for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")]
        for tensors in (state, reference)
    )
    if len(given) != len(wanted):
        raise DetrofitError(f"the tensors cannot be paired by order: {len(given)} given, {len(wanted)} wanted")
    for (name, tensor), (own_name, own) in zip(given, wanted):
        if tensor.shape != own.shape:
            raise DetrofitError(
                f"the tensors cannot be paired by order: '{name}' {tuple(tensor.shape)} stands where "
                f"'{own_name}' {tuple(own.shape)} should"
            )
    return {own_name: tensor for (_, tensor), (own_name, _) in zip(given, wanted)}
