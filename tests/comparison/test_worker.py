from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detrofit.comparison import worker
from detrofit.comparison.costs import peak_memory
from detrofit.comparison.jobs import code_digest, unpack_resamples
from detrofit.config.load import load_experiment
from detrofit.config.schema import Experiment
from detrofit.errors import DetrofitError
from detrofit.training.loop import RunResult
from detrofit.training.run_folder import BEST
from detrofit.training.state import Progress
from detrofit.version import __version__
from tests.evaluation.scenes import random_scene

JOB = {
    "variant": "siou",
    "seed": 3,
    "identity": "0123456789",
    "detrofit": __version__,
    "code": "0",
    "name": "siou-seed3-01234567",
}


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's process is that of the test, which nobody ends."""
    monkeypatch.setattr(worker, "end_with_parent", lambda: None)


def write_job(folder: Path, **changes: object) -> Path:
    """The description of a job in the study's folder."""
    experiment = load_experiment({"model": "rtdetr-n", "data": "data", "seed": 3}).model_dump(mode="json")
    job = {**JOB, "folder": str(folder), "experiment": experiment, "test_split": "test", "resamples": 100, **changes}
    file = folder / "job.json"
    file.write_text(json.dumps(job))
    return file


def record_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "jobs" / f"{JOB['name']}.json").read_text()))


@pytest.mark.usefixtures("alone")
def test_a_run_that_diverged_leaves_a_record_with_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "runs" / str(JOB["name"])

    def diverge(*arguments: object) -> None:
        raise DetrofitError(f"the training has diverged (batch saved as {run / 'bad.safetensors'})")

    monkeypatch.setattr(worker, "run_job", diverge)
    run.mkdir(parents=True)
    (run / "metrics.jsonl").write_text('{"step": 4, "epoch": 1, "AP": 0.25}\n')
    worker.main(write_job(tmp_path))
    record = record_of(tmp_path)
    assert (record["status"], record["variant"], record["seed"]) == ("failed", "siou", 3)
    place = Path("runs", str(JOB["name"]), "bad.safetensors")
    assert record["error"] == f"the training has diverged (batch saved as {place})", "of no machine's folders"
    assert record["curve"] == [[1, 0.25]], "what it had learned until then"


@pytest.mark.usefixtures("alone")
def test_a_machine_with_another_version_does_not_run_a_job(tmp_path: Path) -> None:
    worker.main(write_job(tmp_path, detrofit="99.0"))
    record = record_of(tmp_path)
    assert record["status"] == "failed" and record["error"].startswith(f"detrofit {__version__} is here")


@pytest.mark.usefixtures("alone")
def test_the_record_tells_which_code_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "run_job", lambda *arguments: {})
    worker.main(write_job(tmp_path, code="what it was when the study began"))
    assert record_of(tmp_path)["code"] == code_digest()


@pytest.mark.usefixtures("alone")
def test_the_time_of_earlier_sittings_counts_up_to_the_state_that_they_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "runs" / str(JOB["name"]) / "state.pt"
    state.parent.mkdir(parents=True)

    def interrupted(*arguments: object) -> None:
        state.touch()
        os.utime(state, (time.time() + 100, time.time() + 100))  # as if it had trained so long
        raise KeyboardInterrupt

    monkeypatch.setattr(worker, "run_job", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            worker.main(write_job(tmp_path))
    monkeypatch.setattr(worker, "run_job", lambda *arguments: {})
    worker.main(write_job(tmp_path))
    assert record_of(tmp_path)["seconds"] == pytest.approx(200, abs=20)


def test_a_run_goes_on_from_its_warm_start_and_its_best_checkpoint_is_scored_as_it_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: dict[str, Any] = {}

    def trained(experiment: Experiment, resume_from: Path | None = None) -> RunResult:
        called["resume_from"] = resume_from
        return RunResult(tmp_path / "runs" / "new", 0.1)

    def scored(*arguments: object, **options: object) -> None:
        called.update(options, scored=arguments[0], split=arguments[2])
        raise DetrofitError("that is enough")

    monkeypatch.setattr("detrofit.training.loop.train", trained)
    monkeypatch.setattr("detrofit.training.score.score_file", scored)
    values = {"model": "rtdetr-n", "data": "data", "name": "new", "train": {"precision": "fp32"}}
    experiment = load_experiment(values)
    folder = tmp_path / "runs" / "new"
    for begun, resumes in (("config.yaml", False), ("warm_start.pt", True), ("state.pt", True)):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / begun).touch()
        with pytest.raises(DetrofitError, match="that is enough"):
            worker.run_job(experiment, "test", 100, tmp_path)
        assert called["resume_from"] == (folder if resumes else None)
        assert (called["scored"], called["split"]) == (folder / BEST, "test")
        assert called["precision"] == "fp32"
        shutil.rmtree(folder, ignore_errors=True)


def test_all_runs_are_scored_on_the_same_draws_of_the_pictures() -> None:
    index, predictions = random_scene(3)
    first, again = (worker.score_record(index, predictions, 50) for _ in range(2))
    assert first["resamples"] == again["resamples"], "else two runs would not be paired"
    draws = unpack_resamples(first["resamples"]["AP"])
    assert len(draws) == 50 and draws.std() > 0


def test_what_a_training_started_from_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    progress = Progress(pretrained="model", steps_per_epoch=5)
    monkeypatch.setattr("detrofit.training.state.load_state", lambda run: (progress, {}))
    taken = {"shares_of_parameters": {"kept": 0.75}, "warm_start": {"backbone.stage4.block1": 0.1}}
    (tmp_path / "transfer.json").write_text(json.dumps(taken))
    values = {"model": "rtdetr-n", "data": "data", "train": {"lr": 1e-3, "epochs": 2}}
    facts = worker.start_facts(tmp_path, load_experiment(values))
    assert (facts["pretrained"], facts["kept_share_of_parameters"], facts["warm_started_parts"]) == ("model", 0.75, 1)
    assert (facts["lr"], facts["steps"]) == (1e-3, 10)


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's high-water mark")
def test_peak_memory_is_that_of_the_process_alone() -> None:
    held = np.ones(400 * 2**20, np.uint8)
    own = peak_memory("cpu")["peak_memory_bytes"]
    assert own > held.nbytes
    code = "from detrofit.deployment.machine import peak_memory; print(peak_memory())"
    child = int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)
    assert 0 < child < held.nbytes, "not inherited from the process that started it"
