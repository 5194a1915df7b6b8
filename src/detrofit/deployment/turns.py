"""Timing several things in turns, so that whatever else the machine does hits them alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

FEWEST = 6  # rounds, below which order statistics give no 95 % interval
WARM_UP = 2
# Threads of one runtime wait for more work in a loop for some milliseconds, and would slow down the next one.
PAUSE = 0.02
_Z95 = 1.96


@dataclass(frozen=True)
class Spread:
    """The median of numbers with its 95 % interval (from order statistics), and the 90th percentile."""

    median: float
    low: float
    high: float
    p90: float


def spread(samples: np.ndarray) -> Spread:
    """Of at least `FEWEST` numbers."""
    ordered = np.sort(samples)
    count = len(ordered)
    margin = _Z95 * math.sqrt(count) / 2
    low, high = max(math.floor(count / 2 - margin), 0), min(math.ceil(count / 2 + margin), count - 1)
    return Spread(
        float(np.median(ordered)), float(ordered[low]), float(ordered[high]), float(np.quantile(ordered, 0.9))
    )


def take_turns(runs: Sequence[Callable[[], Sequence[float]]], rounds: int, *, seconds: float = math.inf) -> np.ndarray:
    """What each run returns in each round: `[rounds, runs, numbers]`.

    Every round starts with another run than the one before, so that none always follows the same other. After `seconds`
    the remaining rounds are left out, down to `FEWEST`. The first rounds warm up and are not counted.
    """
    taken: list[list[Sequence[float]]] = []
    started = time.perf_counter()
    for number in range(WARM_UP + rounds):
        if len(taken) >= WARM_UP + FEWEST and time.perf_counter() - started > seconds:
            break
        results: list[Sequence[float]] = [()] * len(runs)
        for turn in range(len(runs)):
            place = (number + turn) % len(runs)
            time.sleep(PAUSE)
            results[place] = runs[place]()
        taken.append(results)
    return np.array(taken[WARM_UP:])
