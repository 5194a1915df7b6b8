"""Real kills of real processes: a resumed run ends with the very weights of one that was never stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from detrofit import DetrofitError
from detrofit.training import setup, state
from detrofit.training.loop import resume, train
from detrofit.training.run_folder import LAST, METRICS
from detrofit.training.state import FILE, Progress, load_state, never_saved, save_state

SETTINGS = {"train.save_every": 1, "name": "run"}

# Runs or resumes the experiment of a YAML file; dies by its own hand where it is told to.
SCRIPT = """
import os, signal, sys
from pathlib import Path
from detrofit.config.load import load_experiment, read_yaml
from detrofit.training import loop, state
config, run, death = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

def die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)

if death.startswith("writing"):
    saves = 0
    def save_half(content, target, real=state.torch.save):
        global saves
        saves += 1
        if saves == int(death.split()[1]):
            Path(target).write_bytes(b"half a state")
            die()
        real(content, target)
    state.torch.save = save_half
if death.startswith("replacing"):
    replaced = 0
    import detrofit.files as files
    def replace(source, target, real=os.replace):
        global replaced
        if str(target).endswith("state.pt"):
            replaced += 1
            if replaced == int(death.split()[1]):
                die()
        real(source, target)
    files.os.replace = replace
loop.resume(run) if run.exists() else loop.train(load_experiment(read_yaml(config)))
"""


def process(folder: Path, experiment, death: str) -> subprocess.Popen:
    import yaml

    script, config = folder / "script.py", folder / "config.yaml"
    script.write_text(SCRIPT)
    config.write_text(yaml.safe_dump(experiment.model_dump(mode="json")))
    command = [sys.executable, str(script), str(config), str(experiment.runs / experiment.name), death]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finished(running: subprocess.Popen) -> int:
    _, errors = running.communicate(timeout=240)
    assert running.returncode in (0, -signal.SIGKILL), errors
    return running.returncode


def wait_for_a_state(running: subprocess.Popen, run: Path) -> None:
    deadline = time.monotonic() + 200
    while not (run / FILE).exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.fixture(scope="module")
def straight(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory):
    """The folder of a run that was never stopped, in a process of its own as the others."""
    from detrofit.config.load import load_experiment, merge_dotted
    from tests.training.conftest import TINY

    folder = tmp_path_factory.mktemp("straight")
    experiment = load_experiment(merge_dotted({"data": tiny_data, "runs": folder / "runs"}, {**TINY, **SETTINGS}))
    assert finished(process(folder, experiment, "never")) == 0
    return experiment.runs / "run"


def assert_same_run(run: Path, straight: Path) -> None:
    ours, theirs = load_file(run / LAST), load_file(straight / LAST)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name
    assert (run / METRICS).read_text() == (straight / METRICS).read_text()
    assert (run / "metrics.csv").read_text() == (straight / "metrics.csv").read_text()
    assert not list(run.glob(".*.tmp")), "nothing half-written stays after a resumed run"


@pytest.mark.parametrize("death", ["writing 1", "writing 2", pytest.param("replacing 4", marks=pytest.mark.slow)])
def test_a_run_killed_while_it_saves_goes_on_bit_for_bit(tiny, tmp_path, straight, death):
    experiment = tiny(**SETTINGS)
    assert finished(process(tmp_path, experiment, death)) == -signal.SIGKILL
    assert finished(process(tmp_path, experiment, "never")) == 0
    assert_same_run(experiment.runs / "run", straight)


def test_a_run_killed_in_the_middle_of_an_epoch_goes_on_bit_for_bit(tiny, tmp_path, straight):
    experiment = tiny(**SETTINGS)
    running = process(tmp_path, experiment, "never")
    wait_for_a_state(running, experiment.runs / "run")
    os.kill(running.pid, signal.SIGKILL)
    assert finished(running) == -signal.SIGKILL, "the run was over before it could be killed"
    assert finished(process(tmp_path, experiment, "never")) == 0
    assert_same_run(experiment.runs / "run", straight)


def test_nobody_resumes_a_run_that_is_running(tiny, tmp_path, straight, monkeypatch):
    monkeypatch.setattr(setup, "PATIENCE", 0.1)
    experiment = tiny(**SETTINGS)
    run = experiment.runs / "run"
    running = process(tmp_path, experiment, "never")
    wait_for_a_state(running, run)
    with pytest.raises(DetrofitError, match=r"the training in .*run is being run by another command"):
        resume(run)
    assert running.poll() is None, "the run was over before it could be disturbed"
    assert finished(running) == 0
    assert_same_run(run, straight)


@pytest.mark.slow
def test_processes_that_load_pictures_keep_nobody_from_resuming_a_killed_run(tiny, tmp_path, straight):
    experiment = tiny(**SETTINGS, workers=1)
    running = process(tmp_path, experiment, "never")
    wait_for_a_state(running, experiment.runs / "run")
    os.kill(running.pid, signal.SIGKILL)
    assert finished(process(tmp_path, experiment, "never")) == 0
    running.communicate(timeout=60)
    assert_same_run(experiment.runs / "run", straight)


def test_a_state_that_is_lost_is_no_new_beginning(tmp_path):
    assert never_saved(tmp_path)
    for epochs, expected in ((1, True), (2, False)):
        (tmp_path / METRICS).write_text("".join(f'{{"step": {n}, "epoch": {n}}}\n' for n in range(1, epochs + 1)))
        assert never_saved(tmp_path) is expected
    save_state(tmp_path, Progress(), {})
    assert not never_saved(tmp_path)


def test_a_full_disk_is_one_line_and_spares_what_was_there(tmp_path, monkeypatch):
    save_state(tmp_path, Progress(step=3), {"model": {}})

    def full(content, target):
        Path(target).write_bytes(b"the first part")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state.torch, "save", full)
    with pytest.raises(DetrofitError, match=r"cannot write .*state\.pt: No space left on device"):
        save_state(tmp_path, Progress(step=4), {"model": {}})
    assert load_state(tmp_path)[0].step == 3
    assert [file.name for file in tmp_path.iterdir()] == [FILE]


def test_a_finished_run_resumes_to_itself(tiny):
    experiment = tiny(**{"name": "run", "train.epochs": 1})
    result = train(experiment)
    before = load_file(result.folder / LAST)
    again = resume(result.folder)
    assert again.best == result.best
    assert all(torch.equal(before[name], tensor) for name, tensor in load_file(result.folder / LAST).items())


def test_what_cannot_be_resumed_is_one_line(tmp_path):
    with pytest.raises(DetrofitError, match="is no run folder"):
        resume(tmp_path)
    with pytest.raises(DetrofitError, match="the state to resume from is lost"):
        load_state(tmp_path)
    (tmp_path / FILE).write_bytes(b"half a state")
    with pytest.raises(DetrofitError, match="damaged"):
        load_state(tmp_path)
