"""The folder of a run: its configuration, metrics as JSONL, CSV, TensorBoard and curves, model files."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from detrofit.config.load import load_experiment, read_yaml
from detrofit.config.schema import Experiment
from detrofit.errors import DetrofitError
from detrofit.evaluation.curves import plot_learning_curves, read_metrics
from detrofit.files import LOCK, write_file
from detrofit.weights.model_file import BEST

__all__ = ["BEST", "CONFIG", "LAST", "METRICS", "TRANSFER", "RunFolder", "new_run_path", "read_config"]

CONFIG, METRICS, TRANSFER = "config.yaml", "metrics.jsonl", "transfer.json"
LAST = "last.safetensors"


class RunFolder:
    """A run's folder and its records; on processes other than the main one it writes nothing."""

    def __init__(self, path: Path, writes: bool) -> None:
        self.path, self.writes = path, writes
        self._board: Any = None

    @classmethod
    def reopen(cls, path: Path, epochs_done: int, writes: bool) -> RunFolder:
        """The folder of a run to resume; records of later epochs than the last one done will be made again."""
        run = cls(path, writes)
        if writes:
            for unfinished in path.glob(".*.tmp"):  # of a process that was killed while it wrote
                unfinished.unlink()
        if writes and (path / METRICS).exists():
            kept = [row for row in read_metrics(path / METRICS) if row["epoch"] <= epochs_done]
            write_file(path / METRICS, _as_lines(kept))
        return run

    def write_config(self, experiment: Experiment) -> None:
        """The effective configuration, every default resolved; `--config` reads it back."""
        if self.writes:
            content = experiment.model_dump(mode="json")
            write_file(self.path / CONFIG, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))

    def write_transfer(self, taken: Mapping[str, Any] | None) -> None:
        """What was taken over of the weights that the run started from, where it did."""
        if self.writes and taken is not None:
            write_file(self.path / TRANSFER, json.dumps(taken, indent=1) + "\n")

    def record(self, row: dict[str, float]) -> None:
        """Add a row (with `step` and `epoch`) to the metrics, and redraw what is made of them."""
        if not self.writes:
            return
        metrics = self.path / METRICS
        rows = [*(read_metrics(metrics) if metrics.exists() else []), row]
        write_file(metrics, _as_lines(rows))
        write_file(self.path / "metrics.csv", _as_csv(rows))
        plot_learning_curves(rows, self.path / "curves.png")
        for name, value in row.items():
            if name not in ("step", "epoch"):
                self._tensorboard(int(row["step"])).add_scalar(name, value, row["step"])

    def close(self) -> None:
        """Finish the TensorBoard file."""
        if self._board is not None:
            self._board.close()

    def _tensorboard(self, first_step: int) -> Any:
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(self.path / "tensorboard", purge_step=first_step)
        return self._board


def new_run_path(experiment: Experiment) -> Path:
    """The folder of a new run under `experiment.runs`; DetrofitError if that of the given name holds a run already.

    Without a name it is made at once, so that trainings that start together have numbers of their own.
    """
    if experiment.name is None:
        paths = (experiment.runs / f"{experiment.model.name}-{number}" for number in itertools.count(1))
        return next(path for path in paths if _made(path))
    path = experiment.runs / experiment.name
    if path.exists() and (not path.is_dir() or any(entry.name not in (CONFIG, LOCK) for entry in path.iterdir())):
        raise DetrofitError(f"{path} exists already; choose another --name, or --resume {path}")
    return path


def _made(folder: Path) -> bool:
    """Make a folder; False where there is something of that name."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return False
    except OSError as error:
        raise DetrofitError(f"cannot make {folder}: {error.strerror}; give another folder with --set runs=") from None
    return True


def read_config(path: Path) -> Experiment:
    """The effective configuration of a run; DetrofitError if the folder is no run."""
    if not (path / CONFIG).is_file():
        raise DetrofitError(f"{path} is no run folder: it has no {CONFIG}")
    return load_experiment(read_yaml(path / CONFIG))


def _as_lines(rows: list[dict[str, float]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _as_csv(rows: list[dict[str, float]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
