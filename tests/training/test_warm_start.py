"""Fresh parts imitate what they replace before training begins, and a resumed run does not do it again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from detrofit import DetrofitError
from detrofit.distillation.local import LocalTraining
from detrofit.training import warm_start
from detrofit.training.loop import resume, train
from detrofit.training.run_folder import LAST, TRANSFER
from detrofit.training.warm_start import WARM_STATE

SWAPS = {"backbone.stage[3,4].block": {"part": "extradw", "expand": 2, "at": {"shortcut": "vd"}}}
WARM = {"retrofit": SWAPS, "train.warm_start": "distill", "train.warm_start_steps": 20, "train.epochs": 1}
SCRIPT = """
import sys
from pathlib import Path
from detrofit.config.load import load_experiment, read_yaml
from detrofit.distillation import local
from detrofit.training import loop
config, run = Path(sys.argv[1]), Path(sys.argv[2])
local.LocalSettings.__init__.__defaults__ = (300, 2e-3, 1e-4, 10, 1.0, 3)  # a state every three steps
loop.resume(run) if run.exists() else loop.train(load_experiment(read_yaml(config)))
"""


@pytest.fixture(scope="module")
def stock(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stock model file."""
    from detrofit.config.load import load_experiment, merge_dotted
    from tests.training.conftest import TINY

    values = {"data": tiny_data, "runs": tmp_path_factory.mktemp("stock"), "name": "stock", "train.epochs": 1}
    return train(load_experiment(merge_dotted({}, {**TINY, **values}))).folder / LAST


def test_fresh_parts_imitate_and_only_they(tiny, stock, monkeypatch):
    seen = {}
    errors: list[dict[str, float]] = []
    monkeypatch.setattr(warm_start.WarmStart, "run", _noting(seen, warm_start.WarmStart.run))
    monkeypatch.setattr(LocalTraining, "learn", _noting_errors(errors, LocalTraining.learn))
    result = train(tiny(**WARM, weights=str(stock), name="warm"))
    assert len(errors) == WARM["train.warm_start_steps"]
    content = json.loads((result.folder / TRANSFER).read_text())["warm_start"]
    assert set(content) == {f"backbone.stage{n}.block{i}" for n in (3, 4) for i in (0, 1)}
    assert all(0 < error < errors[0][name] for name, error in content.items()), "each is nearer than it began"
    assert not (result.folder / WARM_STATE).exists()
    before, after = seen["before"], seen["after"]
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    weights = {name for name in changed if "running" not in name and "num_batches" not in name}
    assert weights and all(name.startswith(tuple(content)) for name in weights)
    assert not any(name.startswith(("backbone.stem", "backbone.stage1", "backbone.stage2")) for name in changed)
    assert "encoder.input_projection.stride32.norm.running_mean" in changed
    assert not seen["frozen"]


def _noting_errors(errors, learn):
    def noted(self, lesson):
        learn(self, lesson)
        errors.append({trainee.key: trainee.error for trainee in self.trainees})

    return noted


def _noting(seen, run):
    def noted(self, model, frozen_norms, *arguments):
        seen["before"] = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        errors = run(self, model, frozen_norms, *arguments)
        seen["after"] = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        seen["frozen"] = frozen_norms
        return errors

    return noted


def test_a_start_where_nothing_is_fresh_is_an_ordinary_one(tiny, stock):
    warm = train(tiny(weights=str(stock), name="warm", **{"train.warm_start": "distill", "train.epochs": 1}))
    cold = train(tiny(weights=str(stock), name="cold", **{"train.epochs": 1}))
    ours, theirs = load_file(warm.folder / LAST), load_file(cold.folder / LAST)
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_there_must_be_something_to_imitate(tiny):
    with pytest.raises(DetrofitError, match="--warm-start distill needs the weights of a whole detector"):
        train(tiny(**WARM))


def process(folder: Path, experiment) -> subprocess.Popen:
    script, config = folder / "script.py", folder / "config.yaml"
    script.write_text(SCRIPT)
    config.write_text(yaml.safe_dump(experiment.model_dump(mode="json")))
    command = [sys.executable, str(script), str(config), str(experiment.runs / experiment.name)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def killed_when(running: subprocess.Popen, seen) -> None:
    deadline = time.monotonic() + 200
    while not seen() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate(timeout=60)
    assert running.returncode == -signal.SIGKILL, "it was over before it could be killed"


@pytest.mark.slow
def test_killed_in_the_warm_start_and_after_it_a_run_goes_on_bit_for_bit(tiny, stock, tmp_path, monkeypatch):
    straight = tiny(**WARM, weights=str(stock), name="straight")
    assert process_finished(tmp_path, straight)

    experiment = tiny(**WARM, weights=str(stock), name="killed")
    run = experiment.runs / "killed"
    running = process(tmp_path, experiment)
    killed_when(running, (run / WARM_STATE).exists)
    assert not (run / "state.pt").exists()
    running = process(tmp_path, experiment)
    killed_when(running, (run / "state.pt").exists)
    monkeypatch.setattr(warm_start.WarmStart, "run", lambda *arguments: pytest.fail("the warm start was done again"))
    resume(run)
    ours, theirs = load_file(run / LAST), load_file(experiment.runs / "straight" / LAST)
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def process_finished(folder: Path, experiment) -> bool:
    running = process(folder, experiment)
    _, errors = running.communicate(timeout=240)
    assert running.returncode == 0, errors
    return True
