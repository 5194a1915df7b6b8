"""Timing in groups, and on which machine the times count."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from detrofit.deployment import latency
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
    for number, changes in enumerate(({"device": "auto"}, {"device": "auto", "rounds": 7})):
        timed(bare_workshop(tmp_path, settings=quick(**changes)), 4)
        assert len(groups) == 4 + number and len(groups[-1]) == 5, changes


def test_a_ratio_of_a_device_is_high_where_the_original_may_have_taken_little(tmp_path, monkeypatch):
    times = {"keep": (5.0, 4.5, 5.02), "a": (4.8, 4.79, 4.81)}  # its interval is long towards what is fast
    monkeypatch.setattr(cost, "read_totals", lambda bench: (times, MACHINE))
    *_, ratio, low, high = _bench_times(tmp_path, {key: Path(key) for key in times})["a"]
    assert (ratio, low, high) == pytest.approx((0.96, 0.9557, 1.0560), abs=1e-3), "it may be no faster at all"


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
