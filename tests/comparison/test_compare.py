from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from detrofit.cli import main
from detrofit.comparison.latencies import installed_runtimes
from detrofit.data.demo import draw_demo_dataset


def command(folder: Path) -> list[str]:
    return [
        "compare", "rtdetr-n", "--data", str(folder / "data"), "--variant", "siou: {loss.box: siou}", "--seeds", "2",
        "--epochs", "1", "--batch", "4", "--imgsz", "64", "--workers", "0", "--out", str(folder / "study"),
        "--set", "latency_rounds=6",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_whole_study_on_drawn_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_demo_dataset(tmp_path / "data", pictures={"train": 12, "val": 6, "test": 10}, size=(96, 96))
    assert main([*command(tmp_path), "--dry-run"]) == 0
    listed = capsys.readouterr().out
    assert "4 runs, 0 of them done" in listed and listed.count("to run") == 4 and "in all " in listed
    trade = tmp_path / "trade.json"
    trade.write_text(json.dumps({"chosen": {"imgsz": [64, 64], "num_queries": 50, "decoder_layers": 1}}))
    cut = "base at 64x64, 50 queries, 1 decoder layer"
    assert main([*command(tmp_path), "--traded", str(trade)]) == 0
    results = json.loads((tmp_path / "study" / "results.json").read_text())
    assert {line["name"]: line["done"] for line in results["variants"]} == {"base": 2, "siou": 2, cut: 2}
    assert results["comparisons"][0]["seeds"] == [0, 1]
    for run in results["runs"]:
        if run["variant"] != cut:
            assert run["peak_memory_bytes"] > 50e6 and run["train_seconds_per_picture"] > 0
        with gzip.open(tmp_path / "study" / run["predictions"]) as file:
            assert isinstance(json.load(file), list)
    (measured,) = results["latency"]
    timed = {(each["variant"], each["runtime"]) for each in measured["files"]}
    assert timed == {(name, runtime) for name in ("base", "siou", cut) for runtime in installed_runtimes()}, measured[
        "notes"
    ]
    assert all(each["ratio"]["median"] == 1 for each in measured["files"] if each["variant"] == "base")
    assert str(tmp_path) not in json.dumps(results), "results name no folder of this machine"
    assert main(["report", str(tmp_path / "study")]) == 0
    assert "siou" in capsys.readouterr().out


def test_a_mistake_is_told_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command(tmp_path), "--variant", "siou: {loss.box: nwd}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
