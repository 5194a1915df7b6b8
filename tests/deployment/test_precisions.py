from __future__ import annotations

import time

import numpy as np
import pytest

from detrofit.deployment import precisions
from detrofit.deployment.machine import describe_machine, is_busy, peak_memory
from detrofit.deployment.precisions import Precisions, compare_precisions
from detrofit.deployment.turns import Spread


def _about(median: float) -> Spread:
    return Spread(median, 0.97 * median, 1.03 * median, 1.1 * median)


@pytest.mark.parametrize(("half_of_int8", "told"), [(0.95, True), (1.05, True), (1.07, False), (1.5, False)])
def test_it_says_where_half_precision_is_as_fast_as_int8(half_of_int8: float, told: bool) -> None:
    ratios = {"bf16": _about(0.6), "int8": _about(0.6 / half_of_int8)}
    lines = Precisions({}, ratios, _about(half_of_int8), "bf16").in_words()
    assert lines[0] == "bf16 takes 0.60 of the time of float32 here (0.58 to 0.62)"
    assert any(line.startswith("bf16 is as fast as INT8") and "--half" in line for line in lines) == told


def test_it_says_where_int8_is_no_faster() -> None:
    lines = Precisions({}, {"int8": _about(1.0)}, None, None).in_words()
    assert lines[-1] == "INT8 is no faster than float32 on this machine"
    assert len(Precisions({}, {"int8": _about(0.5)}, None, None).in_words()) == 1


class _Sleeper:
    """A backend that takes so many milliseconds."""

    input_size, batch = (32, 32), None

    def __init__(self, milliseconds: float) -> None:
        self.seconds = milliseconds / 1e3

    def __call__(self, pictures: np.ndarray) -> None:
        time.sleep(self.seconds)


def test_ratios_are_to_float32_and_to_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precisions, "SECONDS", 0.0)
    backends = {"float32": _Sleeper(40), "bf16": _Sleeper(20), "int8": _Sleeper(1)}
    found = compare_precisions(backends, "bf16")  # type: ignore[arg-type]
    assert found.of_float32["int8"].median < found.of_float32["bf16"].median < 1
    assert found.half_of_int8 is not None and found.half_of_int8.median > 1
    assert set(found.milliseconds) == set(backends) and set(found.of_float32) == {"bf16", "int8"}


def test_the_machine_is_described() -> None:
    machine = describe_machine()
    assert machine["cores"] >= 1 and machine["numpy"] == np.__version__
    assert is_busy({"load": 9.0, "cores": 2}) and not is_busy({"load": 1.0, "cores": 2})
    assert not is_busy({"load": None, "cores": 2})
    peak = peak_memory()
    assert peak is None or 1e7 < peak < 1e12, "bytes"
