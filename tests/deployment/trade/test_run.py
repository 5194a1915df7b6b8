"""The command on drawn data, with a model of drawn weights whose classes are the data's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from detrofit.cli.app import main
from detrofit.data.demo import draw_demo_dataset
from detrofit.data.demo_scenes import SHAPES
from detrofit.data.open import open_dataset
from detrofit.deployment.latency import FORMAT
from detrofit.deployment.trade import run
from detrofit.deployment.trade.points import Knobs
from detrofit.deployment.trade.run import TradeSettings, trade
from detrofit.errors import DetrofitError
from detrofit.runtime.detector import Detector
from detrofit.training.devices import Devices
from detrofit.training.score import score_file
from detrofit.weights.model_file import load_model, read_info, save_model
from tests.deployment.models import draw_model, model_info

TRAINED = (64, 64)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("model") / "best.safetensors"
    save_model(target, draw_model("rtdetr-n", num_classes=len(SHAPES)), model_info("rtdetr-n", TRAINED, tuple(SHAPES)))
    return target


@pytest.fixture(scope="module")
def data(file, tmp_path_factory) -> Path:
    """Drawn pictures whose objects are what the model sees in them, so that its AP is not 0."""
    folder = tmp_path_factory.mktemp("trade") / "data"
    description = draw_demo_dataset(folder, 0, pictures={"train": 2, "val": 6, "test": 2}, size=(96, 96))
    for found in Detector(file, threshold=0, device="cpu")(folder / "images" / "val"):
        lines = [line.rpartition(" ")[0] for line in found.to_yolo_txt().splitlines()[:8]]
        (folder / "labels" / "val" / f"{Path(found.source).stem}.txt").write_text("\n".join(lines) + "\n")
    return description


def test_every_point_has_the_score_of_its_own_model_file(file, data, tmp_path):
    settings = TradeSettings(Knobs(((96, 96),), (10,), (1, 2)), "torch", "cpu", rounds=6, keep=True, workers=0)
    result = trade(file, data, tmp_path, settings)
    assert len(result.points) == 3
    for each in result.points:
        _, scored = score_file(
            tmp_path / "points" / f"{each.point.stem}.safetensors",
            data,
            "val",
            workers=0,
            device="cpu",
            out=tmp_path / "v",
        )
        assert scored.summary["AP"] == each.ap
        assert each.latency.low <= each.milliseconds <= each.latency.high
    aps = [each.ap for each in result.points]
    assert len(set(np.round(aps, 6))) == 3, "the points differ, so the scores above could have been mixed up"


def test_an_exported_file_is_not_asked_for_a_gpu_that_its_runtime_lacks(file, data, tmp_path, monkeypatch):
    tried, devices = [], []

    def time_points(files, picture, rounds, device, advance):
        devices.append(device)
        return {}, {}

    monkeypatch.setattr(run, "Devices", lambda device: Devices("cpu"))
    monkeypatch.setattr(run, "write_point", lambda folder, *rest: folder / "a point")
    monkeypatch.setattr(run, "open_backend", lambda file, device, plugins: tried.append(device))
    monkeypatch.setattr(run, "time_points", time_points)
    for format_ in ("openvino", "torch"):
        trade(file, data, tmp_path, TradeSettings(Knobs((TRAINED,), (10,), (1,)), format_, "cuda", workers=0))
    assert tried == devices == [None, "cuda"]


@pytest.mark.parametrize("from_file", [True, False])
def test_points_are_timed_on_a_file_or_on_pictures_of_their_own_size(from_file, file, data, tmp_path, monkeypatch):
    pictures = []

    def time_points(files, picture, rounds, device, advance):
        pictures.append(picture)
        return {}, {}

    monkeypatch.setattr(run, "time_points", time_points)
    knobs = Knobs((TRAINED,), (10,), (1,))
    trade(file, data, tmp_path, TradeSettings(knobs, "torch", "cpu", workers=0, from_file=from_file))
    assert pictures == [open_dataset(data).split("val").path(0) if from_file else None]


@pytest.mark.slow
def test_a_budget_writes_the_best_model_and_its_export(file, data, tmp_path, capsys, monkeypatch):
    # These weights tell little apart, so that half precision would find other objects than the exported file does.
    monkeypatch.setattr(run, "Devices", lambda device: Devices(device, "fp32"))
    knobs = ["--imgsz", "32", "--queries", "10", "--layers", "1", "--rounds", "6", "--workers", "0"]
    command = ["trade", str(file), "--data", str(data), "--device", "cpu", "--out", str(tmp_path / "out"), *knobs]
    assert main([*command, "--budget", "10s"]) == 0
    printed = capsys.readouterr().out
    assert "as trained" in printed and "measured once more" in printed
    content = json.loads((tmp_path / "out" / "trade.json").read_text())
    best = max(content["points"], key=lambda row: row["AP"])
    assert content["chosen"]["AP"] == best["AP"] and content["chosen"]["budget_ms"] == 10_000
    chosen = tmp_path / "out" / "traded.safetensors"
    info, model = read_info(chosen), load_model(chosen)
    assert list(info.input_size) == content["chosen"]["imgsz"]
    assert model.frame.num_queries == content["chosen"]["num_queries"]
    assert info.trained["val_AP"] == pytest.approx(best["AP"])
    parity = json.loads((tmp_path / "out" / "traded.onnx.parity.json").read_text())
    assert parity["passed"] and parity["ap_file"] == pytest.approx(best["AP"], abs=1e-3)
    assert (tmp_path / "out" / "trade.png").stat().st_size > 5000
    assert not (tmp_path / "out" / "points").exists()


def test_what_was_measured_is_kept_where_nothing_fits_into_the_budget(file, data, tmp_path, capsys):
    knobs = [
        "--imgsz",
        "32",
        "--queries",
        "10",
        "--layers",
        "1",
        "--rounds",
        "6",
        "--workers",
        "0",
        "--format",
        "torch",
    ]
    command = ["trade", str(file), "--data", str(data), "--device", "cpu", "--out", str(tmp_path / "out"), *knobs]
    assert main([*command, "--budget", "1us"]) == 2
    printed = capsys.readouterr()
    assert "nothing fits into 0.001 ms" in printed.err and "32 x 32" in printed.out
    content = json.loads((tmp_path / "out" / "trade.json").read_text())
    assert len(content["points"]) == 2 and content["chosen"] is None
    assert (tmp_path / "out" / "trade.png").exists() and not list((tmp_path / "out").glob("traded*"))


def test_times_from_another_device_decide(file, data, tmp_path, capsys):
    def row(stem: str, milliseconds: float) -> dict:
        total = dict.fromkeys(("median", "low", "high"), milliseconds)
        return {"file": f"{stem}.safetensors", "runtime": "torch", "steps": {"total": total}}

    rows = [row("64x64-q40-l2", 30.0), row("64x64-q10-l1", 9.0), row("32x32-q10-l2", 8.0)]
    bench = tmp_path / "bench.json"
    bench.write_text(json.dumps({"format": FORMAT, "batch": 1, "files": rows, "machine": {"processor": "a small one"}}))
    settings = TradeSettings(device="cpu", bench=bench, workers=0)
    result = trade(file, data, tmp_path, settings, budget=10.0)
    assert {each.point.stem: each.milliseconds for each in result.points} == {
        "64x64-q40-l2": 30.0, "64x64-q10-l1": 9.0, "32x32-q10-l2": 8.0,
    }  # fmt: skip
    assert result.chosen.point.milliseconds <= 10 and result.machine == {"processor": "a small one"}
    assert result.format == "torch" and result.chosen.exported is None
    assert "scoring traded.safetensors" in capsys.readouterr().err, "the second scoring shows how far it is, too"
    with pytest.raises(DetrofitError, match="--bench has times of torch files; leave --format onnx out"):
        trade(file, data, tmp_path, TradeSettings(format="onnx", bench=bench, device="cpu"))
    with pytest.raises(DetrofitError, match="--bench says which points"):
        trade(file, data, tmp_path, TradeSettings(Knobs(num_queries=(5,)), bench=bench, device="cpu"))


def test_a_point_whose_export_fails_is_left_out_with_the_reason(file, data, tmp_path, monkeypatch):
    def refuse(folder, model, info, point, *rest, real=run.write_point):
        if point.num_queries == 10:
            raise DetrofitError("the exported file disagrees")
        return real(folder, model, info, point, *rest)

    monkeypatch.setattr(run, "write_point", refuse)
    settings = TradeSettings(Knobs(((64, 64),), (10, 20), (2,)), "torch", "cpu", rounds=6, workers=0)
    result = trade(file, data, tmp_path, settings)
    (failed,) = (each for each in result.points if each.latency is None)
    assert failed.point.num_queries == 10 and "disagrees" in failed.failure and failed not in result.front


@pytest.mark.parametrize("step", ["write_point", "open_backend"])
def test_what_cannot_be_timed_is_told_before_anything_is_scored(file, data, tmp_path, monkeypatch, step):
    def refuse(*arguments):
        raise DetrofitError("this runtime is not here")

    monkeypatch.setattr(run, step, refuse)
    monkeypatch.setattr(run, "score_points", lambda *arguments, **options: pytest.fail("scored for nothing"))
    with pytest.raises(DetrofitError, match="this runtime is not here"):
        trade(file, data, tmp_path, TradeSettings(format="torch", device="cpu", workers=0))


def test_a_split_without_objects_decides_nothing(file, tmp_path):
    data = draw_demo_dataset(tmp_path / "data", 0, pictures={"train": 1, "val": 1, "test": 1}, size=(64, 64))
    for labels in (data.parent / "labels" / "val").iterdir():
        labels.write_text("")
    with pytest.raises(DetrofitError, match=r"the split .val. of .* has no boxes"):
        trade(file, data, tmp_path / "out", TradeSettings(format="torch", device="cpu"), budget=10.0)


def test_the_test_split_decides_nothing(file, data, capsys):
    assert main(["trade", str(file), "--data", str(data), "--split", "test"]) == 2
    assert "choose on --split val" in capsys.readouterr().err
