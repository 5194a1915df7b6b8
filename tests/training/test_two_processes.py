"""Two real processes (gloo) against one with the same global batches."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from detrofit.training.state import load_state

SCRIPT = '''
"""Updates on given pictures; rank 0 prints the losses of the global batches and the validated pictures."""
import json, sys
from pathlib import Path
import torch
from detrofit import build
from detrofit.data.loader import EvaluationLoader
from detrofit.data.open import open_dataset
from detrofit.distillation.teacher import Teacher
from detrofit.training.devices import Devices
from detrofit.training.finite import FiniteGuard
from detrofit.training.optimizer import freeze_norms
from detrofit.training.prepare import set_training_mode
from detrofit.training.step import Stepper
from detrofit.training.validate import predict_split

torch.set_num_threads(1)
data, folder, kind = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
devices = Devices("cpu", "fp32")
model = devices.place(build("rtdetr-n", num_classes=5, settings={"num_queries": 20, "num_denoising": 10}))
set_training_mode(model, freeze_norms(model, ["backbone", "encoder", "decoder"]))
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
network, optimizer = devices.accelerator.prepare(model, optimizer)
stepper = Stepper(model, network, optimizer, devices, FiniteGuard(model, folder), 0, 0.1, [])
if kind in ("teacher", "little"):  # surer of itself than random numbers are, so that its confidence matters
    teacher = build("rtdetr-n", num_classes=5, settings={"num_queries": 30}, seed=1)
    for head in teacher.decoder.score_head.values():
        head.bias.data += torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0]) if kind == "teacher" else -9.0
    stepper.teacher, stepper.teacher_weight = Teacher(teacher, range(5)), 2.0
images, targets = next(iter(EvaluationLoader(open_dataset(data).split("train"), (64, 64), 4, workers=0)))
if kind == "empty":  # the second half of the batch has no box, which is all of rank 1's
    targets = [t if i < 2 else {**t, "boxes": t["boxes"][:0], "labels": t["labels"][:0]} for i, t in enumerate(targets)]
if kind == "little":  # one box in all, which is rank 0's, and a teacher that sees hardly anything
    targets = [{**t, **{k: t[k][: int(i == 0)] for k in ("boxes", "labels")}} for i, t in enumerate(targets)]
share = 4 // devices.world_size
mine = slice(devices.rank * share, (devices.rank + 1) * share)
to_floats = devices.images
losses = []
for step in range(3):
    bad = kind == "bad" and step == 1 and devices.rank == 1
    devices.images = (lambda pictures: to_floats(pictures) * float("nan")) if bad else to_floats
    losses.append(stepper.update([(images[mine], targets[mine])], step, several_sizes=False))
model.eval()
index = open_dataset(data).split("val")
predictions = predict_split(model, index, (64, 64), devices, batch=1, workers=0, max_detections=20)
if devices.is_main:
    pictures = sorted(i for i in range(len(index)) if i in predictions)
    scores = [float(predictions[i][1].sum()) for i in pictures]
    print(json.dumps({"losses": losses, "pictures": pictures, "scores": scores}))
'''


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def launch(command: list[str], world_size: int, code: int = 0) -> list[tuple[str, str]]:
    """Run a command in so many processes that know of each other and all end with `code`; what each printed."""
    port = free_port()
    processes = []
    for rank in range(world_size):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if world_size > 1:
            environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
        processes.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    try:
        outputs = [process.communicate(timeout=180) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(process.returncode == code for process in processes), outputs
    return outputs


def run(folder: Path, data: Path, world_size: int, kind: str) -> dict:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    outputs = launch([sys.executable, str(script), str(data), str(folder), kind], world_size)
    return json.loads(outputs[0][0].splitlines()[-1])


@pytest.mark.parametrize("kind", ["full", "empty", "teacher", "little"])
def test_two_processes_make_the_steps_of_one(tmp_path, tiny_data, kind):
    one, two = run(tmp_path, tiny_data, 1, kind), run(tmp_path, tiny_data, 2, kind)
    for alone, shared in zip(one["losses"], two["losses"], strict=True):
        assert shared == pytest.approx(alone, rel=1e-4)
    assert two["pictures"] == [0, 1, 2, 3], "every picture once"
    assert two["scores"] == pytest.approx(one["scores"], rel=1e-3)


def test_a_bad_batch_of_one_process_is_skipped_by_both(tmp_path, tiny_data):
    first, skipped, last = run(tmp_path, tiny_data, 2, "bad")["losses"]
    assert skipped is None and last["loss"] < 2 * first["loss"]
    assert [file.name for file in tmp_path.glob("non_finite*")] == ["non_finite_step1_share1.safetensors"]


@pytest.mark.slow
def test_a_whole_training_and_its_score_on_two_processes(tmp_path, tiny_data):
    """The command itself: one folder, one record an epoch, every picture once, and a state that resumes."""
    settings = ["--imgsz", "64", "--epochs", "1", "--batch", "4", "--workers", "0", "--device", "cpu"]
    train = ["train", "rtdetr-n", "--data", str(tiny_data), *settings, "--set", "model.num_queries=20"]
    outputs = launch([sys.executable, "-m", "detrofit", *train, "--set", f"runs={tmp_path / 'runs'}"], 2)
    (folder,) = (tmp_path / "runs").iterdir()
    (row,) = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert row["images"] == 4 and row["step"] == 3
    assert "best validation AP" in outputs[0][0]
    launch([sys.executable, "-m", "detrofit", "train", "--resume", str(folder)], 2)
    launch([sys.executable, "-m", "detrofit", "val", str(folder), "--data", str(tiny_data), "--device", "cpu"], 2)
    scores = json.loads((folder / "val-test" / "evaluation.json").read_text())
    assert scores["summary"]["images"] == 4


INTERRUPTED = """
import os, signal, sys
from detrofit.cli.app import main
from detrofit.training import step
calls, real = 0, step.Stepper._apply

def interrupted(self):
    global calls
    calls += 1
    if calls == 2 and self.devices.rank == 1:
        os.kill(os.getpid(), signal.SIGINT)
    return real(self)

step.Stepper._apply = interrupted
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_two_processes_stop_at_the_same_update_whichever_is_interrupted(tmp_path, tiny_data):
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED)
    settings = ["--imgsz", "64", "--epochs", "2", "--batch", "4", "--workers", "0", "--device", "cpu"]
    train = ["train", "rtdetr-n", "--data", str(tiny_data), *settings, "--set", "model.num_queries=20"]
    outputs = launch([sys.executable, str(script), *train, "--set", f"runs={tmp_path / 'runs'}"], 2, code=130)
    assert "stopped after 2 steps; go on with" in outputs[0][1]
    (folder,) = (tmp_path / "runs").iterdir()
    assert load_state(folder)[0].step == 2
