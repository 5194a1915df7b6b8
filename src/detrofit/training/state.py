"""The training state: all that a resumed run needs to go on as if it had never stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from detrofit.errors import DetrofitError
from detrofit.evaluation.curves import read_metrics
from detrofit.files import atomic_write
from detrofit.training.run_folder import METRICS
from detrofit.weights.archive import read_archive

FILE = "state.pt"
FORMAT = 1


@dataclass
class Progress:
    """Where a training stands: the next update is number `step`, in epoch `epoch` after `step_in_epoch` of its own.

    `sums` and `steps_summed` are the epoch's losses so far, `best` the best validation AP, `pretrained` what the
    training started from, `threshold` the best score threshold at the last validation, `steps_per_epoch` that of
    the data that it started with, `data` the digest of their training split, `teacher` that of the teacher's file,
    `origin` whose weights it started from and their licence.
    """

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    best: float = -1.0
    sums: dict[str, float] = field(default_factory=dict)
    steps_summed: int = 0
    bad_in_a_row: int = 0
    pretrained: str = "nothing"
    threshold: float = 0.5
    steps_per_epoch: int = 0
    data: str = ""
    teacher: str = ""
    origin: dict[str, str] = field(default_factory=dict)


def save_state(folder: Path, progress: Progress, tensors: dict[str, Any]) -> None:
    """Write the state file, whole or not at all. `tensors` are state dicts by what they belong to."""
    with atomic_write(folder / FILE) as temporary:
        try:
            torch.save({"format": FORMAT, "progress": vars(progress).copy(), **tensors}, temporary)
        except RuntimeError as error:  # what torch makes of an OSError
            raise OSError("not all of it could be written") from error


def load_state(folder: Path) -> tuple[Progress, dict[str, Any]]:
    """The saved progress and state dicts, read without executing anything; DetrofitError where there are none."""
    file = folder / FILE
    if not file.is_file():
        raise DetrofitError(f"{folder} has no {FILE}: the state to resume from is lost; start anew with --name")
    content = read_archive(file)
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise DetrofitError(f"{file} is no state of this version of Detrofit; start anew with --name")
    try:
        return Progress(**content.pop("progress")), content
    except (KeyError, TypeError):
        raise DetrofitError(f"{file} was written by another version of Detrofit; start anew with --name") from None


def never_saved(folder: Path) -> bool:
    """Whether a run was stopped before its first state, so that it begins anew.

    Each epoch ends with a state: where metrics tell of more than one, it was there and is lost.
    """
    rows = read_metrics(folder / METRICS) if (folder / METRICS).exists() else []
    return not (folder / FILE).exists() and all(row["epoch"] <= 1 for row in rows)


def restore(folder: Path, content: Mapping[str, Any], parts: Mapping[str, Any]) -> None:
    """Give each of `parts` its state dict of that name; DetrofitError where the two do not fit."""
    try:
        for name, part in parts.items():
            part.load_state_dict(content[name])
    except (KeyError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise DetrofitError(
            f"the state in {folder} does not fit its configuration ({reason}); were parts or data changed since?"
        ) from None
