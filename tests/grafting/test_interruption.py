"""A graft that is killed goes on where it stopped, and finds the same as one that never was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from detrofit.distillation.local import LocalTraining
from detrofit.grafting.results import RESULTS
from detrofit.grafting.training import _training, train_library
from detrofit.grafting.workshop import open_workshop
from tests.grafting.conftest import quick

SCRIPT = """
import sys
from pathlib import Path
from detrofit.distillation import local
from detrofit.grafting import score
from detrofit.grafting.graft import graft
from tests.grafting.conftest import quick
score.LEAST_AP, score.SURE = -1.0, -1e9
save = local.LocalTraining.save_if_due
local.LocalTraining.save_if_due = lambda self, file: self.save(file)
file, data, out = map(Path, sys.argv[1:4])
graft(file, data, out, quick("0.999xparams", steps=8, cache=float(sys.argv[4])))
"""


def process(folder: Path, *arguments: object) -> subprocess.Popen:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "src")])}
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)


def finish(running: subprocess.Popen) -> None:
    _, errors = running.communicate(timeout=500)
    assert running.returncode == 0, errors


def kill_when(running: subprocess.Popen, seen: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 400
    while not seen() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate(timeout=60)
    assert running.returncode == -signal.SIGKILL, "it was over before it could be killed"


@pytest.mark.parametrize("cache", [0.0, 1.0], ids=["streamed", "cached"])
def test_sigterm_ends_a_local_training_after_the_update_and_keeps_it(model_file, drawn, tmp_path, monkeypatch, cache):
    updates = []

    def learn(self, lesson, real=LocalTraining.learn):
        if len(updates) == 3:
            signal.raise_signal(signal.SIGTERM)
        real(self, lesson)
        updates.append(self.step)

    monkeypatch.setattr(LocalTraining, "learn", learn)
    workshop = open_workshop(model_file, drawn, tmp_path, quick(cache=cache))
    with pytest.raises(KeyboardInterrupt):
        train_library(workshop)
    assert updates == ([1, 1, 2, 2] if cache == 0 else [1, 2, 3, 4])
    kept = [_training(workshop, slot).step for slot in workshop.slots]
    assert kept == ([2, 2] if cache == 0 else [4, 0])


@pytest.mark.slow
@pytest.mark.parametrize("cache", [0, 1], ids=["streamed", "cached"])
def test_killed_in_three_steps_a_graft_ends_as_if_it_never_was(model_file, drawn, tmp_path, cache):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    finish(process(tmp_path, model_file, drawn, straight, cache))
    for seen in (
        lambda: any((killed / "library").glob("*.pt")),
        (killed / "scores.json").exists,
        lambda: any((killed / "assemblies").glob("*.json")),
    ):
        kill_when(process(tmp_path, model_file, drawn, killed, cache), seen)
    finish(process(tmp_path, model_file, drawn, killed, cache))
    ours, theirs = (json.loads((folder / RESULTS).read_text()) for folder in (killed, straight))
    for one, other in zip(ours["candidates"], theirs["candidates"], strict=True):
        assert (one["key"], one["imitation_error"], one["score"]) == (
            other["key"],
            other["imitation_error"],
            other["score"],
        )
    assert {each["name"]: each["score"] for each in ours["assembled"]} == {
        each["name"]: each["score"] for each in theirs["assembled"]
    }
    assert ours["winner"] == theirs["winner"] and not list(killed.glob("features/*"))
