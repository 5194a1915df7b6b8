"""AP against a cost: which variants no other beats in both, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detrofit.comparison.analysis import HEADLINE, POINTS, Results
from detrofit.comparison.jobs import Record, unpack_resamples

DRAWS = 2000
_Z95 = 1.96


@dataclass(frozen=True)
class Cost:
    """A cost with its 95 % interval; both ends are the value itself where it is exact."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ParetoPoint:
    """A variant among others.

    Attributes:
        ap: AP points, mean over seeds.
        ap_interval: of the difference to the base over seeds and pictures, around `ap`; None for the base itself, and
            where nothing was compared.
        on_front: no other has at least its AP for at most its cost, by the values alone.
        share: of draws of seeds, pictures and costs in which it is on the front.
    """

    name: str
    ap: float
    ap_interval: tuple[float, float] | None
    cost: Cost
    on_front: bool
    share: float


def pareto_points(results: Results, costs: Mapping[str, Cost]) -> list[ParetoPoint]:
    """A point for each variant that has runs and a cost."""
    lines = [line for line in results["variants"] if line["name"] in costs and line["AP_mean"] is not None]
    if not lines:
        return []
    names = [line["name"] for line in lines]
    compared = {each["name"]: each["metrics"][HEADLINE] for each in results["comparisons"]}
    ap = np.array([line["AP_mean"] for line in lines])
    value = np.array([costs[name].value for name in names])
    shares = on_front(*_draws(results["runs"], names, costs)).mean(axis=0)
    front = on_front(ap[None], value[None])[0]
    return [
        ParetoPoint(name, ap[place], _around(ap[place], compared.get(name)), costs[name], bool(front[place]), share)
        for place, (name, share) in enumerate(zip(names, shares.tolist(), strict=True))
    ]


def on_front(ap: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """bool `[D, V]`: in each draw, which of the variants no other beats; `ap` and `cost` are `[D, V]`."""
    at_least = (ap[:, None] >= ap[:, :, None]) & (cost[:, None] <= cost[:, :, None])
    better = (ap[:, None] > ap[:, :, None]) | (cost[:, None] < cost[:, :, None])
    return np.logical_not((at_least & better).any(axis=2))


def exact(value: float) -> Cost:
    """A cost without uncertainty."""
    return Cost(value, value, value)


def timed(spread: Mapping[str, float]) -> Cost:
    """A median with its interval."""
    return Cost(spread["median"], spread["low"], spread["high"])


def _around(ap: float, numbers: Mapping[str, Any] | None) -> tuple[float, float] | None:
    if numbers is None:
        return None
    low, high = (end - numbers["difference"] for end in numbers["interval"])
    return ap + low, ap + high


def _draws(runs: Sequence[Record], names: Sequence[str], costs: Mapping[str, Cost]) -> tuple[np.ndarray, np.ndarray]:
    """AP and cost `[D, V]`: seeds and pictures drawn for all variants alike, latencies around their medians."""
    random = np.random.default_rng(0)
    columns = []
    pictures: np.ndarray | None = None
    seeds = random.random((DRAWS, max(1, len(runs))))  # in 0..1: a place among the runs of each, however many
    for name in names:
        own = sorted((run for run in runs if run["variant"] == name and run["status"] == "done"), key=_seed)
        resampled = np.stack([unpack_resamples(run["resamples"][HEADLINE]) for run in own])
        if pictures is None:
            pictures = random.integers(0, resampled.shape[1], DRAWS)
        drawn = (seeds[:, : len(own)] * len(own)).astype(int)
        columns.append(resampled[drawn, pictures[:, None]].mean(axis=1))
    ap = POINTS * np.stack(columns, axis=1)
    usable = ~np.isnan(ap).any(axis=1)
    value = np.array([costs[name].value for name in names])
    spread = np.array([math.log(costs[name].high / costs[name].low) / (2 * _Z95) for name in names])
    cost = value * np.exp(spread * random.standard_normal((DRAWS, len(names))))
    return ap[usable], cost[usable]


def _seed(run: Record) -> int:
    return int(run["seed"])
