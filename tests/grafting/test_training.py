"""Local training of a library, as far as it is more than the trainings of its slots."""

from __future__ import annotations

from types import SimpleNamespace

from detrofit.grafting import training
from detrofit.grafting.training import _from_jobs


def test_what_a_job_on_another_machine_has_written_may_be_seen_a_little_later(monkeypatch):
    steps = iter([1, 1, 3])
    settings = SimpleNamespace(steps=3)
    monkeypatch.setattr(training, "_training", lambda *_: SimpleNamespace(step=next(steps), settings=settings))
    monkeypatch.setattr(training, "POLL_SECONDS", 0.0)
    assert _from_jobs(None, [SimpleNamespace(address="a")])["a"].step == 3
