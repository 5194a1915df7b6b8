"""What benchmarks/teacher.py records of a study, and the table that it makes of that."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from detrofit.comparison.analysis import analyse
from tests.comparison.records import make_results

FOLDER = Path(__file__).parents[2] / "benchmarks"


def test_the_table_says_what_the_study_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    teacher = importlib.import_module("teacher")
    results = analyse(make_results({"base": 0.40, "taught": 0.43}, seeds=3))
    setting = {"teacher": "rtdetr-r18 with its own backbone, 40 epochs", "teacher_val_AP": 0.5, "jobs": 2}
    record = teacher.as_record(results, setting, {"base": 52, "taught": 40})
    assert record["seeds"] == [0, 1, 2] and record["verdict"]["difference"] == pytest.approx(3, abs=0.5)
    alone, taught, _, told = teacher.table(record).splitlines()[2:]
    assert alone.startswith("| alone | 52 | 20 | 1 | ") and taught.startswith("| taught | 40 | 20 | 1 | ")
    means = [float(line.split("|")[-2]) for line in (alone, taught)]
    assert means == pytest.approx([40, 43], abs=0.5)
    difference = record["verdict"]["difference"]
    assert f"{difference:+.2f} AP, 95 % interval" in told and "(rtdetr-r18 with its own backbone, 40 epochs)" in told
    assert f"verdict: {record['verdict']['word']}. " in told
