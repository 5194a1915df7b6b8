from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detrofit.cli import bench as bench_module
from detrofit.cli.app import main
from detrofit.deployment import latency
from detrofit.deployment.latency import measure, measure_subjects, timing_device
from detrofit.deployment.subjects import Subject, find_subjects
from detrofit.deployment.turns import Spread, spread, take_turns
from detrofit.errors import DetrofitError
from detrofit.runtime.onnx_backend import read_description
from detrofit.weights.model_file import load_model, read_info, save_model


def test_the_interval_of_the_median_holds_the_true_one_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    held = [(found := spread(generator.exponential(size=50))).low <= np.log(2) <= found.high for _ in range(500)]
    assert 0.93 <= np.mean(held) <= 1.0


def test_turns_begin_with_another_each_round_and_keep_results_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detrofit.deployment.turns.PAUSE", 0)
    order: list[int] = []

    def run(number: int) -> tuple[float]:
        order.append(number)
        return (float(number),)

    samples = take_turns([lambda: run(0), lambda: run(1), lambda: run(2)], 7)
    assert order[:6] == [0, 1, 2, 1, 2, 0]
    assert samples.shape == (7, 3, 1) and (samples[..., 0] == [0, 1, 2]).all()
    assert len(take_turns([lambda: run(0)], 50, seconds=0.0)) == 6


def test_too_few_rounds_are_refused() -> None:
    with pytest.raises(DetrofitError, match="6 or more"):
        measure([], b"", rounds=5)


@pytest.mark.parametrize(
    ("device", "runtime", "timed"),
    [
        ("auto", "torch", None),
        ("cuda:1", "torch", "cuda:1"),
        ("cuda", "openvino", None),
        ("mps", "onnx", None),
        ("cpu", "onnx", "cpu"),
    ],
)
def test_a_runtime_is_timed_on_the_device_as_far_as_it_has_that(device: str, runtime: str, timed: str | None) -> None:
    assert timing_device(device, runtime) == timed


def test_many_files_are_timed_few_at_a_time_each_beside_the_first(
    onnx_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "TOGETHER", 3)
    rounds: list[int] = []

    def in_turns(runs: list, number: int) -> np.ndarray:
        rounds.append(len(runs))
        return take_turns(runs, number)

    monkeypatch.setattr(latency, "take_turns", in_turns)
    result = measure_subjects([Subject(name, onnx_file) for name in "abcdef"], np.zeros((64, 64, 3), np.uint8), 6)
    assert rounds == [3, 3, 2]
    assert [each.variant for each in result.files] == list("abcdef")
    assert result.files[0].ratio == Spread(1, 1, 1, 1) and all(each.ratio.median > 0 for each in result.files)


def test_without_a_picture_each_model_is_timed_on_one_of_its_own_size(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, info, smaller = load_model(model_file), read_info(model_file), tmp_path / "smaller.safetensors"
    save_model(smaller, model, replace(info, input_size=(32, 64)))
    drawn, draw = [], latency.drawn_picture
    monkeypatch.setattr(latency, "drawn_picture", lambda size: drawn.append(draw(size).shape) or draw(size))
    result = measure([model_file, smaller], None, 6)
    assert drawn == [(*info.input_size, 3), (32, 64, 3)]
    assert [each.input_size for each in result.files] == [info.input_size, (32, 64)]


def test_bench_needs_the_base_install_alone_and_writes_what_reports_read(onnx_file: Path, tmp_path: Path) -> None:
    for name in ("torch", "torchvision", "timm", "accelerate", "scipy", "onnx", "openvino", "faster_coco_eval"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('{name} is blocked')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    script = "from detrofit.cli import bench; bench.FRESH_PROCESSES = 1\n"
    script += "import sys; from detrofit.cli.app import main; sys.exit(main(sys.argv[1:]))"
    outs = [f"--out={tmp_path / name}" for name in ("b.json", "b.csv", "b.svg")]
    command = [sys.executable, "-c", script, "bench", str(onnx_file), f"other={onnx_file}", "--rounds=6", *outs]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ratios to the first" in done.stdout
    content = json.loads((tmp_path / "b.json").read_text())
    assert content["format"] == 1 and content["machine"]["cores"] >= 1 and content["rounds"] == 6
    first, second = content["files"]
    assert (first["variant"], second["variant"], second["runtime"]) == ("model", "other", "onnxruntime")
    assert first["ratio"]["median"] == 1.0 and second["precision"] == "float32"
    assert 0 < second["low"] <= second["median"] <= second["high"] and second["median"] <= second["p90"]
    assert second["steps"]["model"]["median"] < second["steps"]["total"]["p90"]
    assert second["parameters"] > 1e6 and second["flops"] > 1e6
    assert second["cold_start_ms"] > second["median"] and second["peak_memory_mb"] > 20
    rows = list(csv.DictReader((tmp_path / "b.csv").open()))
    assert float(rows[0]["total_median"]) == first["median"] and rows[1]["input_height"] == "64"
    assert "other" in (tmp_path / "b.svg").read_text()


def test_a_model_of_the_zoo_is_timed_by_name_with_every_runtime(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_module, "FRESH_PROCESSES", 0)
    out = tmp_path / "b.json"
    runtimes = ["--runtime", "torch", "--runtime", "torch:half", "--runtime", "onnxruntime"]
    assert main(["bench", "rtdetr-n", *runtimes, "--imgsz", "64,96", "--rounds", "6", "--out", str(out)]) == 0
    torch, half, onnxruntime = json.loads(out.read_text())["files"]
    assert (half["precision"], half["flops"], half["device"]) == ("half", torch["flops"], torch["device"])
    assert (torch["variant"], torch["runtime"], onnxruntime["runtime"]) == ("rtdetr-n", "torch", "onnxruntime")
    assert torch["input_size"] == onnxruntime["input_size"] == [64, 96]
    assert torch["parameters"] == onnxruntime["parameters"] and torch["flops"] == onnxruntime["flops"]
    assert "rtdetr-n" in capsys.readouterr().out


def test_models_of_one_file_name_are_exported_apart(model_file: Path, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("stock", "extradw")]
    for number, folder in enumerate(folders):
        folder.mkdir()
        model, info = load_model(model_file), read_info(model_file)
        save_model(folder / "best.safetensors", model, replace(info, threshold=0.1 * (1 + number)))
    (tmp_path / "exports").mkdir()
    subjects = find_subjects([str(each) for each in folders], ["onnxruntime"], None, tmp_path / "exports")
    assert [each.variant for each in subjects] == ["stock", "extradw"]
    assert [read_description(each.file).threshold for each in subjects] == pytest.approx([0.1, 0.2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rtdetr-m"], "neither a model file"),
        (["none.onnx"], "no model file at 'none.onnx'"),
        (["rtdetr-n", "--runtime", "tensorrt"], "no runtime 'tensorrt'"),
        (["rtdetr-n", "--out", "b.txt"], "give .json, .csv, .png or .svg"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_an_exported_file_runs_by_its_own_runtime_at_its_own_size(
    onnx_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", str(onnx_file), "--runtime", "openvino"]) == 2
    assert "is run by onnxruntime, not by openvino" in capsys.readouterr().err
    assert main(["bench", str(onnx_file), "--imgsz", "128"]) == 2
    assert "export it at the other size" in capsys.readouterr().err
