"""Studies whose command is killed, and whose machines are lost, with real processes and a real Ray cluster."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detrofit.cli import main
from detrofit.comparison.lifeline import start_bound
from detrofit.data.demo import draw_demo_dataset

PATIENCE = 900.0  # seconds, on a machine that does other work


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw_demo_dataset(tmp_path / "data", pictures={"train": 16, "val": 4, "test": 6}, size=(64, 64))
    return tmp_path


def command(folder: Path) -> list[str]:
    return [
        "compare", "rtdetr-n", "--data", str(folder / "data"), "--variant", "siou: {loss.box: siou}", "--seeds", "1",
        "--epochs", "3", "--batch", "4", "--imgsz", "64", "--workers", "0", "--out", str(folder / "a study"),
        "--set", "latency_rounds=0", "--set", "train.save_every=1",
    ]  # fmt: skip


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {PATIENCE:.0f} s for {what}")


def alive(text: str) -> list[int]:
    """Processes with that text in their command line."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (place / "cmdline").read_bytes():
                found.append(int(place.name))
        except OSError:
            continue
    return found


def saved_states(folder: Path) -> list[Path]:
    return list((folder / "a study" / "runs").glob("*/state.pt"))


def logs(folder: Path) -> dict[str, str]:
    return {file.name.partition("-")[0]: file.read_text() for file in (folder / "a study" / "logs").glob("*.log")}


PARENT = """
import sys, time
from pathlib import Path
from detrofit.comparison.lifeline import start_bound
start_bound(sys.argv[1:], Path(sys.argv[1] + ".log"), {})
time.sleep(600)
"""
WORKER = "from detrofit.comparison.lifeline import end_with_parent; end_with_parent(); import time; time.sleep(600)"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes as Linux lists them")
def test_a_process_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(WORKER)
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path / "worker.py")])
    (worker,) = wait_for(lambda: set(alive(str(tmp_path / "worker.py"))) - {parent.pid}, "the worker to start")
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for(lambda: worker not in alive(str(tmp_path / "worker.py")), "the worker to end")


def test_what_runs_on_its_own_is_not_ended(tmp_path: Path) -> None:
    code = "from detrofit.comparison.lifeline import *; end_with_parent(); import time; time.sleep(0.3); print('whole')"
    process = start_bound(["-c", code], tmp_path / "log", {})
    assert process.wait() == 0 and (tmp_path / "log").read_text() == "whole\n"
    assert process.stdin is not None
    process.stdin.close()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_study_goes_on_where_it_stopped(folder: Path) -> None:
    study = subprocess.Popen([sys.executable, "-m", "detrofit", *command(folder)], stdout=subprocess.DEVNULL)
    wait_for(lambda: saved_states(folder), "a saved state")
    study.send_signal(signal.SIGKILL)
    study.wait()
    wait_for(lambda: not alive(str(folder / "a study" / "logs")), "its worker to end")
    assert not list((folder / "a study" / "jobs").glob("*.json")), "no job was over"
    assert main(command(folder)) == 0
    results = json.loads((folder / "a study" / "results.json").read_text())
    assert [line["done"] for line in results["variants"]] == [1, 1]
    assert "resuming after" in logs(folder)["base"] and "resuming after" not in logs(folder)["siou"]


@pytest.mark.slow
def test_a_lost_node_repeats_its_jobs_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(Path(main.__code__.co_filename).parents[2]))
    small: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=small)
    lost = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    cluster.wait_for_nodes()
    codes: list[int] = []
    study = threading.Thread(target=lambda: codes.append(main([*command(folder), "--ray", cluster.address])))
    try:
        study.start()
        wait_for(lambda: len(saved_states(folder)) == 2, "a saved state on each node")
        cluster.remove_node(lost, allow_graceful=False)
        study.join(PATIENCE)
    finally:
        cluster.shutdown()
        study.join(PATIENCE)
    assert codes == [0]
    results = json.loads((folder / "a study" / "results.json").read_text())
    assert [line["done"] for line in results["variants"]] == [1, 1]
    again = [name for name, log in logs(folder).items() if "resuming after" in log]
    assert len(again) == 1, "the job of the node that was lost goes on, the other was not disturbed"
    assert not alive(str(folder / "a study" / "logs")), "no worker outlives its node"
