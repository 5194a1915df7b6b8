"""Timing in groups, and on which machine the times count."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from detrofit.deployment import latency
from detrofit.deployment.bench_files import TimedFile
from detrofit.deployment.turns import Spread
from detrofit.grafting import cost
from detrofit.grafting.cost import LIBRARY, _bench_times, _timed, _timed_already
from detrofit.grafting.workshop import Workshop
from tests.grafting.conftest import bare_workshop, quick

MACHINE = {"processor": "fast", "cores": 2, "load": 0.1}


@pytest.fixture
def groups(monkeypatch) -> list[list[str]]:
    """The names of files that are timed together, which takes no time."""
    found: list[list[str]] = []

    def measure(files: list[Path], picture: Any, rounds: int, *, device: str | None) -> Any:
        found.append([file.stem for file in files])
        one = SimpleNamespace(median=1.0, low=0.9, high=1.1, ratio=Spread(1.0, 0.9, 1.1, 1.0))
        return SimpleNamespace(files=[one] * len(files))

    monkeypatch.setattr(cost, "measure", measure)
    on(monkeypatch)
    return found


def on(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """The machine that all is timed on from now on."""
    monkeypatch.setattr(cost, "describe_machine", lambda: MACHINE | changes)


def timed(workshop: Workshop, number: int) -> dict[str, Any]:
    return _timed(workshop, {name: Path(name) for name in ("keep", *map(str, range(number)))}, LIBRARY)


def test_each_group_fits_into_one_measurement(tmp_path, groups):
    timed(bare_workshop(tmp_path), 2 * latency.TOGETHER)
    assert max(map(len, groups)) == latency.TOGETHER, "more would be split, and some timed apart from the others"
    assert all(names[0] == "keep" for names in groups)
    assert sorted(name for names in groups for name in names[1:]) == sorted(map(str, range(2 * latency.TOGETHER)))


def test_times_of_another_machine_device_or_number_of_rounds_do_not_count(tmp_path, groups, monkeypatch):
    workshop = bare_workshop(tmp_path)
    timed(workshop, 3)
    on(monkeypatch, load=5.0)
    assert len(timed(workshop, 4)["teacher"]) == 2
    assert [len(names) for names in groups] == [4, 2], "what has been timed here is not timed again"
    on(monkeypatch, cores=1)
    record = timed(workshop, 4)
    assert record["machine"]["cores"] == 1 and len(record["teacher"]) == 1 and len(groups[-1]) == 5
    several = ({"device": "auto"}, {"device": "auto", "rounds": 7}, {"device": "auto", "runtime": "onnxruntime"})
    for number, changes in enumerate(several):
        timed(bare_workshop(tmp_path, settings=quick(**changes)), 4)
        assert len(groups) == 4 + number and len(groups[-1]) == 5, changes


def on_a_device(workshop: Workshop, ratios: dict[str, tuple[float, float, float]]) -> dict[str, tuple[float, ...]]:
    """Latencies and ratios by a record that tells of each file its ratio to the record's first."""
    known = {key: TimedFile((5.0, 4.9, 5.1), ratio, "torch", 7, (64, 64)) for key, ratio in ratios.items()}
    return _bench_times(workshop, known, {key: Path(key) for key in ratios}, dict.fromkeys(ratios, (7, 1)))


def test_a_ratio_of_a_device_is_high_where_the_original_may_have_taken_little(tmp_path):
    ratios = {"keep": (1.0, 0.9, 1.004), "a": (0.96, 0.958, 0.962)}  # its interval is long towards what is fast
    *_, ratio, low, high = on_a_device(bare_workshop(tmp_path), ratios)["a"]
    assert (ratio, low, high) == pytest.approx((0.96, 0.9557, 1.0560), abs=1e-3), "it may be no faster at all"


def test_ratios_of_a_device_are_of_the_same_rounds_whatever_the_first_file_of_its_record_is(tmp_path):
    ratios = {"first": (1.0, 1.0, 1.0), "keep": (1.25, 1.25, 1.25), "a": (1.0, 1.0, 1.0)}
    assert on_a_device(bare_workshop(tmp_path), ratios)["a"] == (5.0, 4.9, 5.1, 0.8, 0.8, 0.8)


def test_what_is_timed_already_needs_no_file(tmp_path, groups, monkeypatch):
    workshop = bare_workshop(tmp_path)
    timed(workshop, 3)
    assert _timed_already(workshop, LIBRARY, ["keep", "0", "1", "2"]) == {"keep", "0", "1", "2"}
    assert _timed_already(workshop, LIBRARY, ["keep", "0", "3"]) == {"0", "1", "2"}, "the original, for its turns"
    on(monkeypatch, cores=1)
    assert not _timed_already(workshop, LIBRARY, ["keep", "0"])
    on(monkeypatch)
    device = bare_workshop(tmp_path, settings=quick(bench=tmp_path / "bench.json"))
    assert not _timed_already(device, LIBRARY, ["keep", "0"]), "it takes the files"


def test_other_work_beside_the_timing_is_told(tmp_path, groups, monkeypatch):
    steady, disturbed = bare_workshop(tmp_path / "steady"), bare_workshop(tmp_path / "disturbed")
    timed(steady, latency.TOGETHER)
    assert steady.notes == []
    measure, slower = cost.measure, iter([1.0, 2.0])

    def disturb(*args: Any, **others: Any) -> Any:
        files = [SimpleNamespace(**vars(each)) for each in measure(*args, **others).files]
        files[0].median *= next(slower)
        return SimpleNamespace(files=files)

    monkeypatch.setattr(cost, "measure", disturb)
    timed(disturbed, latency.TOGETHER)
    (note,) = disturbed.notes
    assert note.startswith("the original took 1.0 to 2.0 ms") and LIBRARY in note
