"""Local training as jobs: with real processes, a real Ray cluster, and processes that are lost or fail."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from detrofit import DetrofitError
from detrofit.cli.app import main
from detrofit.comparison.executors import Ended, LocalProcesses
from detrofit.grafting import parallel
from detrofit.grafting.budget import parse_budget
from detrofit.grafting.parallel import job_settings, read_settings, train_slots
from detrofit.grafting.training import train_library
from detrofit.grafting.workshop import GraftSettings, open_workshop
from tests.grafting.conftest import quick

SLOTS = ["backbone.stage4.block1", "encoder.fusion_block0"]
FAKE = """
import json, sys
from pathlib import Path
job = json.loads(Path(sys.argv[1]).read_text())
with (Path(job["folder"]) / "started.txt").open("a") as file:
    file.write(job["slot"] + "\\n")
if "fusion" in job["slot"] and (Path(job["folder"]) / "broken").exists():
    sys.exit("error: the data are not here")
"""


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    """What a job is described from; its worker is a script that trains nothing."""
    monkeypatch.setattr(parallel, "POLL_SECONDS", 0.02)
    (tmp_path / "worker.py").write_text(FAKE)
    folder = tmp_path / "a graft"
    folder.mkdir()
    return SimpleNamespace(folder=folder, file=Path("t.safetensors"), source=Path("data"), settings=GraftSettings())


def started(workshop) -> list[str]:
    return (workshop.folder / "started.txt").read_text().split()


def test_every_slot_is_a_job_with_all_that_another_machine_needs(workshop):
    train_slots(workshop, SLOTS, lambda worker: LocalProcesses(2, [str(workshop.folder.parent / "worker.py")]))
    assert sorted(started(workshop)) == SLOTS
    job = json.loads((workshop.folder / "logs" / f"{SLOTS[0]}.json").read_text())
    assert all(Path(job[name]).is_absolute() for name in ("file", "data", "folder"))


def test_the_settings_of_a_job_are_those_of_the_graft():
    settings = quick("0.7x", plugins=(Path("mine.py"),), workers=None, bench=Path("bench.json"))
    read = read_settings(json.loads(json.dumps(job_settings(settings, threads=3))))
    for name in ("slots", "candidates", "steps", "lr", "seed", "search_split", "inside", "batch", "runtime"):
        assert getattr(read, name) == getattr(settings, name), name
    assert read.workers == 3 and read.plugins == (Path("mine.py").absolute(),)
    assert parse_budget("0.7x") in settings.budgets and read.budgets == ()


def test_a_slot_whose_machine_is_lost_is_trained_again_and_given_up_in_the_end(workshop):
    class Losing(LocalProcesses):
        def ended(self):
            return [Ended(each.name, None if each.code else 0) for each in super().ended()]

    (workshop.folder / "broken").touch()
    worker = [str(workshop.folder.parent / "worker.py")]
    with pytest.raises(DetrofitError, match=r"encoder\.fusion_block0 failed: its machine was lost 3 times"):
        train_slots(workshop, SLOTS, lambda _: Losing(1, worker))
    assert started(workshop) == [SLOTS[0], *[SLOTS[1]] * 3]


def test_a_job_that_fails_is_one_line_with_the_reason(workshop):
    (workshop.folder / "broken").touch()
    worker = [str(workshop.folder.parent / "worker.py")]
    with pytest.raises(DetrofitError, match=r"fusion_block0 failed: .*code 1: error: the data are not here \(see logs"):
        train_slots(workshop, SLOTS, lambda _: LocalProcesses(2, worker))


@pytest.mark.slow
def test_the_command_trains_slots_in_processes(model_file, drawn, tmp_path, without_gates, capsys):
    out = tmp_path / "a graft"
    text = f"--slots {SLOTS[0]} --candidates none --runtime torch --steps 2 --batch 4 --rounds 6 --budget 0.999xparams"
    options = [*text.split(), "--no-knobs", "--device", "cpu", "--workers", "0"]
    command = ["graft", str(model_file), "--data", str(drawn), "--out", str(out), "--jobs", "2", *options]
    assert main(command) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "the original" in printed and f"report: {out}" in " ".join(printed.split())
    assert (out / "logs" / f"{SLOTS[0]}.json").exists() and (out / "report.html").exists()
    assert main([*command, "--lr", "0.01"]) == 2
    assert "holds a graft with another 'lr'" in capsys.readouterr().err


def same_states(one, other) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(tensor, other[key][place][name])
        for key, places in one.items()
        for place, state in places.items()
        for name, tensor in state.items()
    )


@pytest.mark.slow
def test_processes_find_what_one_process_finds(model_file, drawn, tmp_path):
    here, apart = (open_workshop(model_file, drawn, tmp_path / name, quick()) for name in ("here", "a part"))
    expected, errors = train_library(here)
    states, found = train_library(apart, lambda worker: LocalProcesses(2, worker))
    assert found == errors and same_states(states, expected)
    assert {file.stem for file in (tmp_path / "a part" / "logs").glob("*.log")} == set(SLOTS)
    assert not (tmp_path / "a part" / "features").exists(), "nothing was left to train here"

    def refuse(worker):
        raise AssertionError("what is trained needs no executor")

    train_library(apart, refuse)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Ray's test cluster runs on Linux and macOS")
def test_a_ray_cluster_trains_the_slots(model_file, drawn, tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="ray is not installed")
    from ray.cluster_utils import Cluster

    from detrofit.comparison.ray_cluster import RayCluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(Path(parallel.__file__).parents[2]))
    small = {"num_cpus": 2, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=small)
    try:
        workshop = open_workshop(model_file, drawn, tmp_path / "on ray", quick())
        states, errors = train_library(workshop, lambda worker: RayCluster(cluster.address, worker=worker))
    finally:
        cluster.shutdown()
    assert len(states) == len(errors) == 4
    logs = {file.stem: file.read_text() for file in (tmp_path / "on ray" / "logs").glob("*.log")}
    assert logs.keys() == set(SLOTS) and not any("error" in log for log in logs.values())
    assert not (tmp_path / "on ray" / "features").exists(), "nothing was left to train here"
