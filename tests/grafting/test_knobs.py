from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from detrofit.grafting import cost, knobs
from detrofit.grafting.knobs import free_knobs
from tests.grafting.conftest import bare_workshop

POINT = {"imgsz": [64, 64], "num_queries": 20, "decoder_layers": 1, "AP": 0.5, "on_front": True}


def test_the_free_knobs_of_another_machine_are_measured_anew(tmp_path, monkeypatch):
    machine: dict[str, Any] = {"processor": "fast"}
    monkeypatch.setattr(cost, "describe_machine", lambda: dict(machine))
    monkeypatch.setattr(knobs, "trade", lambda *rest: SimpleNamespace(points=[POINT]))
    points = [POINT | {"latency": {"milliseconds": 2.0}}]
    monkeypatch.setattr(knobs, "_parameters", lambda *rest: 7)
    monkeypatch.setattr(knobs, "as_json", lambda measured: {"machine": dict(machine), "points": points})
    workshop = bare_workshop(tmp_path)
    assert free_knobs(workshop) == free_knobs(workshop)
    assert workshop.looks == 1
    machine["processor"] = "slow"
    free_knobs(workshop)
    assert workshop.looks == 2 and workshop.record("knobs.json")["machine"] == machine


def test_the_fastest_comes_first_and_what_is_not_on_the_front_is_left_out(tmp_path, monkeypatch):
    times, front = (20.0, 10.0, 15.0, 5.0), (True, False, True, True)
    points = [{**POINT, "latency": {"milliseconds": time}, "on_front": on} for time, on in zip(times, front)]
    monkeypatch.setattr(knobs, "trade", lambda *rest: SimpleNamespace(points=points))
    monkeypatch.setattr(knobs, "_parameters", lambda *rest: 7)
    monkeypatch.setattr(knobs, "as_json", lambda measured: {"machine": {}, "points": points})
    assert [each["ratio"] for each in free_knobs(bare_workshop(tmp_path))] == [0.25, 0.75, 1.0]
