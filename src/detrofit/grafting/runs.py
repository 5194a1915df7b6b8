"""A training in a folder of its own: begun, gone on with, or taken as it is, and never that of other settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detrofit.config.schema import Experiment
from detrofit.errors import DetrofitError
from detrofit.evaluation.curves import read_metrics
from detrofit.training.loop import train
from detrofit.training.run_folder import BEST, CONFIG, METRICS, read_config
from detrofit.training.state import FILE as STATE

# Where a training is made, which does not change what it finds; and its data, which its state knows by their content.
_FREE = {"runs", "name", "device", "workers", "data"}
_SECTIONS = ("model", "train", "augment")


def train_in(run: Path, experiment: Experiment) -> Path:
    """The best model file of the training in the folder `run`: begun, gone on with or, where it is over, as it is.

    Raises DetrofitError where the folder holds a training with other settings, which stays as it is.
    """
    begun = (run / CONFIG).exists()
    if begun and (difference := first_difference(read_config(run), experiment)):
        raise DetrofitError(f"{run} holds a training with another '{difference}'; choose another --out")
    if begun and _is_whole_copy(run, experiment):
        return run / BEST
    return train(experiment, resume_from=run if begun else None).folder / BEST


def first_difference(one: Experiment, other: Experiment) -> str | None:
    """The first setting, `train.lr` for instance, by which two trainings find other things; None where there is none.

    Data are not looked at.
    """
    ours, theirs = _decisive(one), _decisive(other)
    return next((key for key in ours | theirs if ours.get(key) != theirs.get(key)), None)


def _decisive(experiment: Experiment) -> dict[str, Any]:
    """Dotted settings with their values, those of files as paths from the root."""
    values = experiment.model_dump(mode="json", exclude=_FREE)
    sections = {name: values.pop(name) for name in _SECTIONS}
    values |= {f"{name}.{key}": value for name, section in sections.items() for key, value in section.items()}
    values["plugins"] = [Path(file).absolute() for file in values["plugins"]]
    for key in ("weights", "train.teacher"):
        values[key] = values[key] and Path(values[key]).absolute()
    return values


def _is_whole_copy(run: Path, experiment: Experiment) -> bool:
    """Whether this is a finished training that was copied without its state: with the metrics of the last epoch."""
    if (run / STATE).exists() or not (run / BEST).exists() or not (run / METRICS).exists():
        return False
    rows = read_metrics(run / METRICS)
    return bool(rows) and rows[-1]["epoch"] == experiment.train.epochs
