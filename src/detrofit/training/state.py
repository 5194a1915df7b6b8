"""The training state: all that a resumed run needs to go on as if it had never stopped."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch

from detrofit.errors import DetrofitError
from detrofit.files import atomic_write

FILE = "state.pt"
FORMAT = 1


@dataclass
class Progress:
    """Where a training stands: the next update is number `step`, in epoch `epoch` after `step_in_epoch` of its own.

    `sums` and `steps_summed` are the epoch's losses so far, `best` the best validation AP.
    """

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    best: float = -1.0
    sums: dict[str, float] = field(default_factory=dict)
    steps_summed: int = 0
    bad_in_a_row: int = 0


def save_state(folder: Path, progress: Progress, tensors: dict[str, Any]) -> None:
    """Write the state file, whole or not at all. `tensors` are state dicts by what they belong to."""
    with atomic_write(folder / FILE) as temporary:
        torch.save({"format": FORMAT, "progress": vars(progress).copy(), **tensors}, temporary)


def load_state(folder: Path) -> tuple[Progress, dict[str, Any]]:
    """The saved progress and state dicts, read without executing anything; DetrofitError where there are none."""
    file = folder / FILE
    if not file.is_file():
        raise DetrofitError(f"{folder} has no {FILE}: nothing was saved to resume from; start anew with --name")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, BadZipFile, EOFError, OSError) as error:
        raise DetrofitError(f"{file} is damaged and cannot be resumed: {str(error).splitlines()[0]}") from None
    if content.pop("format") != FORMAT:
        raise DetrofitError(f"{file} was written by another version of Detrofit; start anew with --name")
    return Progress(**content.pop("progress")), content
