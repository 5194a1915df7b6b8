"""The measurements behind docs/graft.md and docs/distillation.md in their smallest form, from end to end."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from detrofit.data.demo import draw_demo_dataset
from detrofit.grafting import score

FOLDER = Path(__file__).parents[2] / "benchmarks"
TINY: dict[str, Any] = {
    "model.num_queries": 20,
    "model.decoder_layers": 1,
    "model.num_denoising": 0,
    "device": "cpu",
    "workers": 0,
    "train.epochs": 1,
}
ONE = {"slots": ("backbone.stage4.block1",), "candidates": ("none", {"part": "extradw", "expand": 1.0}),
       "norm_pictures": 4, "device": "cpu", "assemblies": 1, "knobs": False}  # fmt: skip


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a script of the folder by name."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


@pytest.fixture
def data(tmp_path: Path) -> Path:
    draw_demo_dataset(tmp_path / "data" / "demo", 0, pictures={"train": 8, "val": 4, "test": 4}, size=(64, 64))
    return tmp_path / "data"


@pytest.mark.slow
def test_every_part_of_the_graft_benchmark_can_be_done(
    script: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    graft = script("graft")
    monkeypatch.setattr(score, "LEAST_AP", -1.0)  # nothing is learnt in one epoch
    monkeypatch.setattr(score, "SURE", -1e9)
    monkeypatch.setattr(graft, "SETS", {"demo": ("demo", {"imgsz": 64}, (0,))})
    monkeypatch.setattr(graft, "RECIPE", {**graft.RECIPE, **TINY, "model": {"name": "rtdetr-n"}})
    monkeypatch.setattr(graft, "TOOL", ONE)
    monkeypatch.setattr(graft, "BUDGET", "0.999xparams")
    monkeypatch.setattr(graft, "RANDOM_ASSEMBLIES", 1)
    monkeypatch.setattr(graft, "CONTROLS", ("stage 4",))
    monkeypatch.setattr(graft, "REPLACED", {name: graft.REPLACED[name] for name in ("stage 4", "stages 3 and 4")})
    steps = {name: step for name, step in graft.STEPS.items() if not name.startswith("replaced") or "stage 4" in name}
    monkeypatch.setattr(graft, "STEPS", steps)
    record = tmp_path / "record.json"
    options = ["--data", data, "--runs", tmp_path / "runs", "--record", record, "--steps", 2, "--batch", 4]
    options += ["--rounds", 6, "--runtime", "torch", "--finish", 1]
    assert run(graft, monkeypatch, *options) == 0, capsys.readouterr().err
    done = json.loads(record.read_text())
    assert list(done) == [f"demo-0/{step}" for step in steps]
    assert done["demo-0/graft"]["winner"].startswith("graft-") and done["demo-0/graft"]["missed"] is None
    assert {"teacher", "rival teacher trained longer", "rival uniformly narrower"} <= done["demo-0/test"].keys()
    narrower = done["demo-0/rivals"]["rows"]["uniformly narrower"]["parameters"]
    chosen = done["demo-0/rivals"]["rows"]["the chosen parts from random numbers"]["parameters"]
    assert abs(narrower - chosen) < 0.05 * chosen
    capsys.readouterr()
    assert run(graft, monkeypatch, "--table", "--record", record) == 0
    table = capsys.readouterr().out
    for told in ("| demo-0 | teacher |", "random numbers, no training", "| chosen graft-", "stage 4: all replaced"):
        assert told in table
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.slow
def test_a_part_that_cannot_be_done_does_not_stop_the_others(
    script: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    graft = script("graft")
    monkeypatch.setattr(graft, "SETS", {"demo": ("demo", {"imgsz": 64}, (0,))})
    record = tmp_path / "record.json"
    options = ["--data", data, "--runs", tmp_path / "runs", "--record", record, "--only", "demo-0/rivals", "demo-0/ass"]
    assert run(graft, monkeypatch, *options) == 1
    told = capsys.readouterr().err.splitlines()
    assert told == [f"demo-0/{step} cannot be done: this needs demo-0/graft, which is not done"
                    for step in ("assemblies", "rivals")]  # fmt: skip


@pytest.mark.slow
def test_the_teacher_benchmark_can_be_done(
    script: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = script("teacher")
    model = {"name": "rtdetr-n", "num_queries": 20, "decoder_layers": 1, "num_denoising": 0}
    monkeypatch.setattr(teacher, "STUDENT", {**teacher.STUDENT, "model": model, "device": "cpu", "workers": 0})
    monkeypatch.setattr(teacher, "TEACHER", {**teacher.TEACHER, "model": "rtdetr-n"})
    monkeypatch.setattr(teacher, "ROUNDS", 3)
    options = ["--data", data / "demo", "--runs", tmp_path / "runs", "--seeds", 1, "--epochs", 1, "--imgsz", 64]
    assert run(teacher, monkeypatch, *options) == 0
    assert "an update takes" in capsys.readouterr().out
    study = json.loads((tmp_path / "runs" / "study" / "results.json").read_text())
    assert all(line["done"] == 1 for line in study["variants"]), study["variants"]
    taught = load_config(tmp_path / "runs" / "teacher")
    assert taught["retrofit"] == {} and study["variants"][1]["name"] == "taught"


def run(module: ModuleType, monkeypatch: pytest.MonkeyPatch, *options: object) -> int:
    """The exit code of a script called with these options."""
    monkeypatch.setattr("sys.argv", [f"{module.__name__}.py", *map(str, options)])
    try:
        module.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def load_config(folder: Path) -> dict[str, Any]:
    import yaml

    content: dict[str, Any] = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    return content
