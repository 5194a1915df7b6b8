"""The scripts over the whole catalogue: what they swap in, what their tables say, and that a stopped run goes on."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from detrofit.config.models import build
from detrofit.parts.registry import all_parts

FOLDER = Path(__file__).parents[2] / "benchmarks"
SETTINGS = {"torch": "2", "imgsz": 640, "processor": "some", "threads": 2, "repeats": 3, "memory": "4 pictures"}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a script of the folder by name."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def test_every_part_but_the_stock_ones_is_swapped_in(script: Any) -> None:
    usual = script("usual_swaps").usual_swaps("rtdetr-n")
    stock = {choice["part"] for choice in build("rtdetr-n", num_classes=1).slots.values()}
    ours = {part.name for part in all_parts() if part.origin.source == "detrofit"}
    assert usual.keys() == ours - (stock - {"none"})  # an empty slot is a change where the stock model fills it
    assert usual["extradw"] == {"backbone.stage[3,4].block": "extradw"}
    assert usual["timm"] == {"backbone": {"part": "timm", "name": "resnet10t"}}


def row(parameters: float, gflops: float, ratio: float | None = None, loss: bool = False) -> dict[str, Any]:
    timed = {} if ratio is None else {f"{kind} ms": 100.0 * ratio for kind in ("torch", "openvino")}
    timed |= {} if ratio is None else {f"{kind} ratio": ratio for kind in ("torch", "openvino")}
    memory = {} if ratio is None and not loss else {"training MiB": 1000.0}
    counted = {"swap": "x=y", "parameters": parameters, "gflops": gflops, "loss": loss}
    return {**counted, "run": "2026-01-02T03:04", **timed, **memory}


def write(script: Any, folder: Path, rows: dict[str, Any]) -> tuple[str, str]:
    record = {"settings": SETTINGS, "rows": {f"model/{name}": value for name, value in rows.items()}}
    script("catalogue_tables").write_tables(record, folder)
    return tuple((folder / name).read_text("utf-8") for name in ("catalogue.md", "catalogue_findings.md"))  # type: ignore[return-value]


def test_the_tables_say_where_numbers_disagree(script: Any, tmp_path: Path) -> None:
    rows = {"stock": row(2e7, 60, 1.0), "small-and-slow": row(1e7, 50, 1.5), "large-and-fast": row(3e7, 40, 0.5)}
    table, findings = write(script, tmp_path, {**rows, "a-loss": row(2e7, 60, loss=True)})
    assert "| [small-and-slow](small-and-slow.md) | `x` | 10.00 M (-50%) | 50.0 (-17%) | 150 ms (+50%) |" in table
    assert "| [a-loss](a-loss.md) | `x` | 20.00 M | 60.0 | as stock | as stock | 1000 MiB |" in table
    assert "1 of 2 parts have fewer parameters than stock. Of those, none need more operations" in findings
    assert "1 parts with fewer parameters, 1 (`small-and-slow` +50.0%) are slower" in findings
    assert "2 parts with fewer operations, 1 (`small-and-slow` +50.0%) are slower" in findings
    assert "parameters -1.00, operations 1.00" in findings


def test_what_is_not_measured_is_said(script: Any, tmp_path: Path) -> None:
    table, findings = write(script, tmp_path, {"stock": row(2e7, 60), "part": row(1e7, 61)})
    assert "not measured yet" in table and "not measured yet" in findings
    assert "1 (`part` +1.7%) need more operations" in findings


@pytest.mark.slow
def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, FOLDER / "catalogue.py", "--models", "rtdetr-n", "--repeats", "1"]
        places = ["--record", tmp_path / "record.json", "--tables-folder", tmp_path]
        return subprocess.run([*command, *places, *arguments], capture_output=True, text=True, check=False)

    done = run("--imgsz", "64", "--only", "se")
    assert done.returncode == 0, done.stderr
    first = json.loads((tmp_path / "record.json").read_text())["rows"]
    assert first.keys() == {"rtdetr-n/stock", "rtdetr-n/se"}
    assert all(value > 0 for key, value in first["rtdetr-n/se"].items() if key not in ("swap", "run", "loss"))
    done = run("--imgsz", "64", "--only", "se", "nwd")
    assert done.returncode == 0, done.stderr
    second = json.loads((tmp_path / "record.json").read_text())["rows"]
    assert second.pop("rtdetr-n/nwd").keys() == {"swap", "parameters", "gflops", "loss", "run", "training MiB"}
    assert second == first
    assert "[nwd](nwd.md)" in (tmp_path / "catalogue.md").read_text()
    refused = run("--imgsz", "96", "--only", "se")
    assert refused.returncode == 1 and "was made otherwise" in refused.stderr


def test_short_trainings_cover_every_part_and_notice_a_loss_that_rises(script: Any) -> None:
    short = script("short_trainings")
    runs = short.all_runs()
    assert {name.split("/")[1] for name in runs if name.startswith("bccd/")} >= set(short.usual_swaps("rtdetr-n"))
    assert short.falls({"loss": [3.0, 3.5, 2.0]}) and not short.falls({"loss": [3.0, 2.0, 3.1]})
