from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from detrofit.comparison import worker
from detrofit.comparison.costs import peak_memory
from detrofit.config.load import load_experiment
from detrofit.errors import DetrofitError

JOB = {
    "variant": "siou",
    "seed": 3,
    "identity": "0123456789",
    "detrofit": "0",
    "code": "0",
    "name": "siou-seed3-01234567",
}


def test_a_run_that_diverged_leaves_a_record_with_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(*arguments: object) -> None:
        raise DetrofitError("the detections are not finite numbers: the training has diverged")

    monkeypatch.setattr(worker, "run_job", diverge)
    monkeypatch.setattr(worker, "end_with_parent", lambda: None)
    run = tmp_path / "runs" / str(JOB["name"])
    run.mkdir(parents=True)
    (run / "metrics.jsonl").write_text('{"step": 4, "epoch": 1, "AP": 0.25}\n')
    experiment = load_experiment({"model": "rtdetr-n", "data": "data", "seed": 3}).model_dump(mode="json")
    job = {**JOB, "folder": str(tmp_path), "experiment": experiment, "test_split": "test", "resamples": 100}
    (tmp_path / "job.json").write_text(json.dumps(job))
    worker.main(tmp_path / "job.json")
    record = json.loads((tmp_path / "jobs" / f"{JOB['name']}.json").read_text())
    assert (record["status"], record["variant"], record["seed"]) == ("failed", "siou", 3)
    assert record["error"].startswith("the detections are not finite numbers") and "\n" not in record["error"]
    assert record["curve"] == [[1, 0.25]], "what it had learned until then"


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's high-water mark")
def test_peak_memory_is_that_of_the_process_alone() -> None:
    held = np.ones(400 * 2**20, np.uint8)
    own = peak_memory("cpu")["peak_memory_bytes"]
    assert own > held.nbytes
    code = "from detrofit.comparison.costs import _peak_resident; print(_peak_resident())"
    child = int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)
    assert 0 < child < held.nbytes, "not inherited from the process that started it"
