"""Real signals to real processes: Ctrl-C and SIGTERM end a training with its state saved, and nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from detrofit.config.schema import Experiment
from detrofit.training.interruption import Interruption
from detrofit.training.run_folder import LAST, METRICS
from detrofit.training.state import load_state

# The command itself; in the middle of its second update, or of its first validation, it receives the signal; or twice
# in the middle of its fifth update; or it and its workers do in the second.
SCRIPT = """
import os, sys, time
from detrofit.cli.app import main
from detrofit.training import keeper, step
place, number = sys.argv[1], int(sys.argv[2])
calls = 0
when = {"update": 2, "group": 2, "twice": 5, "validation": 1}[place]

def signalled(real):
    def wrapped(*arguments, **options):
        global calls
        calls += 1
        if calls == when:
            if place == "group":
                os.killpg(0, number)
                time.sleep(1)  # for a worker that ends to be missed
            else:
                os.kill(os.getpid(), number)
            if place == "twice":
                os.kill(os.getpid(), number)
        return real(*arguments, **options)
    return wrapped

if place != "validation":
    step.Stepper._apply = signalled(step.Stepper._apply)
else:
    keeper.validate = signalled(keeper.validate)
sys.exit(main(sys.argv[3:]))
"""


def command(folder: Path, place: str, number: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    words = [sys.executable, str(script), place, str(number), *arguments]
    return subprocess.run(words, capture_output=True, text=True, timeout=240, start_new_session=True)


@pytest.fixture(scope="module")
def straight(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was never stopped."""
    from detrofit.config.load import load_experiment, merge_dotted
    from detrofit.training.loop import train
    from tests.training.conftest import TINY

    values = merge_dotted({"data": tiny_data, "runs": tmp_path_factory.mktemp("runs"), "name": "run"}, TINY)
    return train(load_experiment(values)).folder


@pytest.mark.parametrize(
    ("place", "number", "steps"),
    [
        ("update", signal.SIGINT, 2),
        pytest.param("validation", signal.SIGTERM, 3, marks=pytest.mark.slow),
        pytest.param("twice", signal.SIGINT, 3, marks=pytest.mark.slow),
        pytest.param("group", signal.SIGTERM, 2, marks=pytest.mark.slow),
    ],
)
def test_what_was_done_is_saved(
    tiny: Callable[..., Experiment], tmp_path: Path, straight: Path, place: str, number: int, steps: int
) -> None:
    experiment = tiny(name="run", workers=int(place == "group"))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(experiment.model_dump(mode="json")))
    run = experiment.runs / "run"
    stopped = command(tmp_path, place, number, "train", "--config", str(tmp_path / "config.yaml"))
    assert stopped.returncode == 130 and "Traceback" not in stopped.stderr
    made = 4 if place == "twice" else steps
    assert f"stopped after {made} steps; go on with: detrofit train --resume" in stopped.stderr
    progress, _ = load_state(run)
    assert progress.step == steps, "what a second signal broke off does not fit together"
    again = command(tmp_path, place, 0, "train", "--resume", str(run))  # signal 0 does nothing
    assert again.returncode == 0, again.stderr
    ours, theirs = load_file(run / LAST), load_file(straight / LAST)
    assert all((ours[name] == tensor).all() for name, tensor in theirs.items())
    assert (run / METRICS).read_text() == (straight / METRICS).read_text()


def send(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


def test_outside_an_update_nothing_waits() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), Interruption():
        send(signal.SIGTERM)
        raise AssertionError("it went on")
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_update_is_finished_first_and_a_second_signal_ends_it() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt), Interruption() as interruption:
        with interruption.held_back():
            send()
            done.append("update")
        done.append("never")
    with pytest.raises(KeyboardInterrupt), Interruption() as interruption, interruption.held_back():
        send()
        done.append("first")
        send()
        done.append("never")
    assert done == ["update", "first"] and interruption.broke_off


def test_of_several_processes_none_stops_alone() -> None:
    with Interruption() as interruption:
        interruption.by_agreement = True
        send()
        with interruption.held_back():
            pass
        assert interruption.asked and not interruption.broke_off
        with pytest.raises(KeyboardInterrupt):
            send()


def test_a_fault_inside_an_update_is_not_hidden() -> None:
    with pytest.raises(ValueError, match="fault"), Interruption() as interruption, interruption.held_back():
        send()
        raise ValueError("fault")


def test_other_threads_change_nothing() -> None:
    import threading

    found: list[Any] = []

    def enter() -> None:
        with Interruption() as interruption, interruption.held_back():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]
