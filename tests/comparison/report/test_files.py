from __future__ import annotations

import json
from pathlib import Path

import pytest

from detrofit.comparison.analysis import write_results
from detrofit.comparison.report import files
from detrofit.comparison.report.files import (
    add_latencies,
    read_results,
    remember_data,
    remembered_data,
    write_reports,
)  # fmt: skip
from detrofit.errors import DetrofitError
from tests.comparison.records import make_results
from tests.comparison.report_cases import BASE, NO_CHARTS, Drawn, drawn_study

PAIR = (BASE, Drawn("one", 1.0))


@pytest.fixture(autouse=True)
def without_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "study_charts", lambda content: NO_CHARTS)


def test_results_alone_rebuild_the_report(tmp_path: Path) -> None:
    results = drawn_study(PAIR, epochs=2)
    write_results(results, tmp_path / "first")
    write_reports(results, tmp_path / "first")
    again = read_results(tmp_path / "first")
    assert {key: again[key] for key in again if key != "date"} == {
        key: results[key] for key in results if key != "date"
    }
    write_reports(again, tmp_path / "second")
    for name in ("report.html", "table.csv", "table.tex", "table.md"):
        assert (tmp_path / "first" / name).read_text("utf-8") == (tmp_path / "second" / name).read_text("utf-8"), name


def test_files_of_another_version_or_cut_off_are_named(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    with pytest.raises(DetrofitError, match="holds no study"):
        read_results(tmp_path)
    content = json.dumps(make_results({"base": 0.4, "other": 0.42}))
    file.write_text(content[: len(content) // 2])
    with pytest.raises(DetrofitError, match=r"results\.json is cut off"):
        read_results(tmp_path)
    file.write_text(json.dumps({**make_results({"base": 0.4}), "detrofit": "0.0.1"}))
    with pytest.raises(DetrofitError, match=r"was written by detrofit 0\.0\.1"):
        read_results(tmp_path)


def test_times_of_another_device_are_added_and_replaced(tmp_path: Path) -> None:
    results = drawn_study(PAIR, epochs=2)
    spread = {"median": 5.0, "low": 4.9, "high": 5.1, "p90": 5.5}
    timed = [
        {"variant": name, "runtime": "onnxruntime", "precision": precision, "megabytes": 4.0, "input_size": [64, 64],
         "ratio": spread, "steps": {"model": spread, "total": spread}}
        for name in ("base", "one") for precision in ("float32", "int8")
    ]  # fmt: skip
    how = {"format": 1, "rounds": 50, "warm_up": 2, "batch": 4, "threads": 2}
    head = {**how, "machine": {"processor": "small", "cores": 4}}
    file = tmp_path / "phone.json"
    file.write_text(json.dumps({**head, "files": timed}))
    added = add_latencies(add_latencies(results, [file]), [file])
    assert [each["source"] for each in added["latency"]] == ["study", "phone.json"]
    write_reports(added, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    for words in ("ONNX Runtime, phone.json", "ONNX Runtime int8, phone.json", "batch 4, from a picture in a file"):
        assert words in page
    assert "small, 4 cores, 2 threads of each runtime" in page


def test_where_the_data_was_is_remembered_beside_the_results(tmp_path: Path) -> None:
    assert remembered_data(tmp_path) is None
    remember_data(tmp_path, tmp_path / "data with spaces")
    assert remembered_data(tmp_path) == tmp_path / "data with spaces"
    (tmp_path / "local.json").write_text("[")
    assert remembered_data(tmp_path) is None
