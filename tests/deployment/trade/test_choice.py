from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detrofit import DetrofitError
from detrofit.deployment.trade.choice import TradePoint, best_within, pareto_front, parse_budget
from detrofit.deployment.trade.points import Point
from detrofit.deployment.trade.timing import PointLatency, read_bench


def measured(milliseconds: float | None, ap: float, number: int = 0) -> TradePoint:
    latency = None if milliseconds is None else PointLatency(milliseconds, milliseconds, milliseconds)
    return TradePoint(Point((64, 64), number + 1, 1), {"AP": ap}, latency)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_the_front_is_what_no_point_beats(pairs):
    points = [measured(ms, ap / 10, number) for number, (ms, ap) in enumerate(pairs)]
    front = pareto_front(points)
    for each in points:
        beaten = any(
            other.milliseconds <= each.milliseconds and other.ap >= each.ap
            and (other.milliseconds, other.ap) != (each.milliseconds, each.ap)
            for other in points
        )  # fmt: skip
        same = [(other.milliseconds, other.ap) for other in front]
        assert beaten != ((each.milliseconds, each.ap) in same)
    assert len({(each.milliseconds, each.ap) for each in front}) == len(front)


def test_the_best_within_a_budget_and_nothing_within_it():
    points = [measured(20, 0.5), measured(10, 0.4), measured(12, 0.3), measured(None, 0.9)]
    assert best_within(points, 19.9) is points[1]
    assert best_within(points, 20) is points[0]
    with pytest.raises(DetrofitError, match=r"nothing fits into 9 ms: the fastest point takes 10 ms"):
        best_within(points, 9)


@pytest.mark.parametrize(("text", "expected"), [("20ms", 20), ("0.02 s", 20), ("7.5", 7.5), ("900us", 0.9)])
def test_budgets(text, expected):
    assert parse_budget(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "fast", "-3ms", "20 minutes", "0ms"])
def test_what_is_no_time_is_one_line(text):
    with pytest.raises(DetrofitError, match="--budget takes a time"):
        parse_budget(text)


TOTAL = {"median": 5.0, "low": 4.5, "high": 6.0}
ROW = {"file": "C:\\bench\\320x480-q100-l2.onnx", "runtime": "onnxruntime", "steps": {"total": TOTAL}}


def record(folder, *rows, batch=1):
    file = folder / "bench.json"
    content = {"format": 1, "batch": batch, "files": rows, "machine": {"processor": "ARM"}}
    file.write_text(json.dumps(content))
    return file


def test_a_record_from_another_device(tmp_path):
    other = {"file": "best.safetensors", "runtime": "torch", "steps": {"total": TOTAL}}
    bench = read_bench(record(tmp_path, ROW, other))
    assert bench.latencies == {Point((320, 480), 100, 2): PointLatency(5.0, 4.5, 6.0)}
    assert bench.format == "onnx" and bench.machine == {"processor": "ARM"}


def test_times_that_are_not_those_of_a_point_and_a_picture_are_refused(tmp_path):
    with pytest.raises(DetrofitError, match=r"has times of 8 pictures at once; time them one by one"):
        read_bench(record(tmp_path, ROW, batch=8))
    with pytest.raises(DetrofitError, match=r"has .320x480-q100-l2. twice; time it with one runtime"):
        read_bench(record(tmp_path, ROW, {**ROW, "file": "points/320x480-q100-l2.xml"}))
    with pytest.raises(DetrofitError, match=r"times of .320x480-q100-l2. and .best-320x480-q100-l2., one point"):
        read_bench(record(tmp_path, ROW, {**ROW, "file": "best-320x480-q100-l2.onnx"}))
    with pytest.raises(DetrofitError, match=r"times points with onnxruntime and openvino; time them with one runtime"):
        read_bench(record(tmp_path, ROW, {**ROW, "file": "64x64-q100-l2.xml", "runtime": "openvino"}))
    with pytest.raises(DetrofitError, match=r"does not tell with which runtime its files were timed"):
        read_bench(record(tmp_path, {**ROW, "runtime": "abacus"}))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "no record at"),
        ("[]", "is no file of"),
        ('{"format": 1, "batch": 1, "files": [], "machine": {}}', "times no file that is named after a point"),
        ('{"format": 1, "batch": 1, "files": [{"file": "1x1-q1-l1.onnx"}], "machine": {}}', "is no file of"),
        ("half a re", "is no file of"),
    ],
)
def test_what_is_no_record_is_one_line(tmp_path, content, line):
    file = tmp_path / "bench.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(DetrofitError, match=line):
        read_bench(file)
