from __future__ import annotations

import csv
import json

import pytest

from detrofit import DetrofitError
from detrofit.evaluation.curves import read_metrics
from detrofit.training.run_folder import CONFIG, METRICS, RunFolder, new_run_path, read_config


def row(epoch: int, **more: float) -> dict[str, float]:
    return {"step": 3 * epoch, "epoch": epoch, "loss": 1.0 / epoch, "lr": 1e-3, **more}


def test_runs_without_a_name_are_numbered(tiny):
    experiment = tiny()
    assert new_run_path(experiment).name == "rtdetr-n-1"
    assert new_run_path(experiment).name == "rtdetr-n-2", "of two that start together each has its own"
    (experiment.runs / "file").touch()
    with pytest.raises(DetrofitError, match=r"cannot make .*rtdetr-n-1: .*give another folder with --set runs="):
        new_run_path(tiny(runs=experiment.runs / "file"))
    with pytest.raises(DetrofitError, match="exists already"):
        new_run_path(tiny(name="file"))


def test_a_run_that_never_began_may_begin_again_and_no_other(tiny):
    experiment = tiny(name="mine")
    run = RunFolder(new_run_path(experiment), writes=True)
    run.write_config(experiment)
    assert new_run_path(experiment) == run.path, "a mistake in the data, mended, must not cost the name"
    assert read_config(run.path) == experiment
    (run.path / METRICS).write_text("")
    with pytest.raises(DetrofitError, match=r"mine exists already; choose another --name, or --resume"):
        new_run_path(experiment)


def test_records_are_kept_in_every_form(tmp_path):
    run = RunFolder(tmp_path, writes=True)
    run.record(row(1))
    run.record(row(2, AP_small=0.5))
    run.close()
    assert [each["epoch"] for each in read_metrics(tmp_path / METRICS)] == [1, 2]
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["AP_small"] == "" and rows[1]["AP_small"] == "0.5"
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG") and any((tmp_path / "tensorboard").iterdir())


def test_what_a_killed_run_left_behind_is_cleared_away(tmp_path):
    complete = "".join(json.dumps(row(epoch)) + "\n" for epoch in (1, 2, 3))
    (tmp_path / METRICS).write_text(complete + '{"step": 12, "epo')
    (tmp_path / ".state.pt.123.tmp").write_bytes(b"half")
    RunFolder.reopen(tmp_path, epochs_done=2, writes=True)
    assert [each["epoch"] for each in read_metrics(tmp_path / METRICS)] == [1, 2]
    assert [path.name for path in tmp_path.iterdir()] == [METRICS]


def test_other_processes_write_nothing(tmp_path, tiny):
    run = RunFolder(tmp_path / "run", writes=False)
    run.write_config(tiny())
    run.record(row(1))
    run.close()
    assert not (tmp_path / "run").exists()
    with pytest.raises(DetrofitError, match=f"has no {CONFIG}"):
        read_config(tmp_path / "run")
