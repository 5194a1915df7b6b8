"""Trainings in folders of their own: gone on with, taken as they are, and never those of other settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from detrofit import DetrofitError
from detrofit.config.load import load_experiment, merge_dotted
from detrofit.config.schema import Experiment
from detrofit.grafting import runs
from detrofit.grafting.runs import train_in
from detrofit.training.loop import RunResult
from detrofit.training.run_folder import BEST, METRICS, RunFolder
from detrofit.training.state import FILE as STATE
from tests.training.conftest import TINY


def experiment(folder: Path, **changes: Any) -> Experiment:
    fixed = {"data": "data.yaml", "weights": "none", "runs": folder, "name": "run"}
    return load_experiment(merge_dotted(fixed, {**TINY, **changes}))


@pytest.fixture
def trained(monkeypatch) -> list[Path | None]:
    """From where each training goes on, none of which is made."""
    found: list[Path | None] = []

    def train(wanted: Experiment, resume_from: Path | None = None) -> RunResult:
        found.append(resume_from)
        return RunResult(wanted.runs / str(wanted.name), 0.0)

    monkeypatch.setattr(runs, "train", train)
    return found


@pytest.fixture
def run(tmp_path) -> Path:
    """The folder of a training that was begun."""
    RunFolder(tmp_path / "run", writes=True).write_config(experiment(tmp_path))
    return tmp_path / "run"


def test_a_training_is_begun_once_and_then_gone_on_with(tmp_path, trained):
    folder = tmp_path / "run"
    assert train_in(folder, experiment(tmp_path)) == folder / BEST
    RunFolder(folder, writes=True).write_config(experiment(tmp_path))
    assert train_in(folder, experiment(tmp_path)) == folder / BEST
    assert trained == [None, folder]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("model.num_queries", 30),
        ("model.heads", 4),
        ("retrofit", {"backbone.stage4.block": "extradw"}),
        ("imgsz", 96),
        ("seed", 1),
        ("weights", "other.safetensors"),
        ("train.epochs", 7),
        ("train.teacher", "teacher.safetensors"),
        ("augment.mosaic", 0.5),
    ],
)
def test_a_training_with_other_settings_is_refused_and_stays(run, trained, setting, value):
    (run / STATE).touch()
    kept = {file: file.read_bytes() for file in run.iterdir()}
    with pytest.raises(DetrofitError, match=rf"run holds a training with another '{setting}'; choose another --out"):
        train_in(run, experiment(run.parent, **{setting: value}))
    assert not trained and {file: file.read_bytes() for file in run.iterdir()} == kept


def test_where_a_training_is_made_makes_it_no_other(run, trained, monkeypatch):
    monkeypatch.chdir(run.parent)
    RunFolder(run, writes=True).write_config(experiment(run.parent, weights="start.safetensors"))
    start = str(run.parent / "start.safetensors")
    train_in(run, experiment(run.parent, weights=start, device="cuda", workers=3, data="b.yaml"))
    assert trained == [run]


def test_nothing_is_removed_of_a_training_that_was_killed_before_it_had_saved_anything(run, trained):
    (run / "notes.txt").touch()
    train_in(run, experiment(run.parent))
    assert trained == [run] and (run / "notes.txt").exists()


@pytest.mark.parametrize(("epochs", "is_whole"), [(1, False), (2, True)])
def test_a_finished_training_without_its_state_is_taken_as_it_is(run, trained, epochs, is_whole):
    (run / BEST).touch()
    rows = [{"epoch": epoch + 1, "AP": 0.1} for epoch in range(epochs)]
    (run / METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert train_in(run, experiment(run.parent)) == run / BEST
    assert trained == ([] if is_whole else [run])
