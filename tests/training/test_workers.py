from __future__ import annotations

import pytest

from detrofit.training import workers
from detrofit.training.workers import default_workers


@pytest.mark.parametrize(("cores", "processes", "expected"), [(4, 1, 4), (64, 1, 8), (16, 8, 2), (2, 4, 1)])
def test_the_processes_of_a_training_share_the_cores(monkeypatch, cores, processes, expected):
    monkeypatch.setattr(workers, "usable_cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert default_workers(None) == expected
    assert default_workers(0) == 0
