from __future__ import annotations

import threading

import pytest

from detrofit.errors import DetrofitError
from detrofit.grafting import clock
from detrofit.grafting.clock import now_and_then
from tests.grafting.conftest import bare_workshop


def test_what_passes_is_noted_before_it_is_over(monkeypatch):
    monkeypatch.setattr(clock, "SECONDS", 0.001)
    noted = threading.Event()
    with now_and_then(noted.set):
        assert noted.wait(30), "a kill would have lost it"


def test_the_end_is_noted_too_and_then_no_more():
    notes: list[int] = []
    with pytest.raises(KeyboardInterrupt), now_and_then(lambda: notes.append(1)):
        raise KeyboardInterrupt
    assert notes == [1]
    assert not any(thread.name == "detrofit-clock" for thread in threading.enumerate())


def test_a_note_that_cannot_be_written_hides_no_other_error(monkeypatch, capsys):
    def refuse() -> None:
        tried.set()
        raise DetrofitError("cannot write")

    monkeypatch.setattr(clock, "SECONDS", 0.001)
    tried = threading.Event()
    with pytest.raises(ValueError, match="the work"), now_and_then(refuse):
        assert tried.wait(30)
        raise ValueError("the work")
    with pytest.raises(DetrofitError, match="cannot write"), now_and_then(refuse):
        pass
    assert "Traceback" not in capsys.readouterr().err


def test_a_step_adds_to_its_earlier_sittings(tmp_path):
    workshop = bare_workshop(tmp_path)
    workshop.keep("hours.json", {"timing": 1.0, "scoring": 2.0})
    with workshop.clock("timing"):
        pass
    hours = workshop.record("hours.json")
    assert 1.0 < hours["timing"] < 1.1 and hours["scoring"] == 2.0
