from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from detrofit.cli.app import main
from detrofit.deployment.latency import measure
from detrofit.deployment.turns import spread
from detrofit.errors import DetrofitError


def test_the_interval_of_the_median_holds_the_true_one_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    held = [(found := spread(generator.exponential(size=50))).low <= np.log(2) <= found.high for _ in range(500)]
    assert 0.93 <= np.mean(held) <= 1.0


def test_too_few_rounds_are_refused() -> None:
    with pytest.raises(DetrofitError, match="6 or more"):
        measure([], b"", rounds=5)


def test_bench_times_every_step(onnx_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(onnx_file), str(onnx_file)]
    assert main(["bench", *files, "--rounds", "6", "--out", str(tmp_path / "bench.json")]) == 0
    assert "times the first" in capsys.readouterr().out
    content = json.loads((tmp_path / "bench.json").read_text())
    assert content["machine"]["cores"] >= 1 and len(content["files"]) == 2
    assert content["files"][0]["ratio"]["median"] == 1.0
    steps = content["files"][1]["steps"]
    assert 0 < steps["model"]["median"] < steps["total"]["p90"]
    assert main(["bench", files[0], "--rounds", "6", "--out", str(tmp_path / "bench.csv")]) == 0
    rows = list(csv.DictReader((tmp_path / "bench.csv").open()))
    assert float(rows[0]["total_median"]) > 0
