"""How far sums over single swaps are from what is measured once they stand together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
FEWEST_PAIRS = 6  # that an interval of their order is told of
_Z95 = 1.96


@dataclass(frozen=True)
class SumError:
    """What sums must be corrected by to meet what was measured.

    Attributes:
        factor: of all changes, by least squares through the origin; 1 where nothing is known.
        terms: what is to be added for each candidate. They share what the factor leaves of each measured sum, and are
            the smallest that do, so that a candidate whose sets came out worse than others loses its place.
    """

    factor: float
    terms: Mapping[str, float]

    def corrected(self, key: str, change: float) -> float:
        """What a candidate changes, corrected; a factor that would turn its sign is not taken."""
        return (self.factor if self.factor > 0 else 1.0) * change + self.terms.get(key, 0.0)


def sum_error(assembled: Sequence[tuple[Sequence[str], float, float]]) -> SumError:
    """The error of sums over sets of candidates: of each set its keys, what was predicted and what was measured."""
    chosen = [keys for keys, _, _ in assembled]
    x, y = (np.array([each[place] for each in assembled], float) for place in (1, 2))
    square = float(x @ x)
    factor = float(x @ y) / square if square > 0 else 1.0
    keys = sorted({key for each in chosen for key in each})
    if not keys:
        return SumError(factor, {})
    inside = np.array([[float(key in each) for key in keys] for each in chosen])
    rest = y - (factor if factor > 0 else 1.0) * x
    terms = np.linalg.lstsq(inside, rest, rcond=None)[0]
    return SumError(factor, dict(zip(keys, terms.tolist())))


def kendall_tau(predicted: Sequence[float], measured: Sequence[float]) -> dict[str, float | None] | None:
    """Kendall's tau between two orders, with a 95 % interval (`low`, `high`); None where it has no meaning.

    The interval is from resampled pairs, and reaches at least as far to both sides, within -1 to 1, as the normal one
    of orders that have nothing to do with each other, whose standard deviation is sqrt(2(2n + 5) / (9n(n - 1))): pairs
    that are drawn twice count for nothing, so that resampling alone would be sure of two orders that agree by chance.
    Without interval for fewer than `FEWEST_PAIRS`.
    """
    from scipy.stats import kendalltau

    x, y = np.array(predicted, float), np.array(measured, float)
    if len(set(x)) < 2 or len(set(y)) < 2:
        return None
    tau, number = float(kendalltau(x, y).statistic), len(x)
    found: dict[str, float | None] = {"tau": tau, "low": None, "high": None, "number": number}
    if number < FEWEST_PAIRS:
        return found
    generator = np.random.default_rng(0)
    draws = [generator.integers(number, size=number) for _ in range(RESAMPLES)]
    taus = [value for draw in draws if np.isfinite(value := kendalltau(x[draw], y[draw]).statistic)]
    low, high = np.quantile(taus, [0.025, 0.975])
    margin = _Z95 * math.sqrt(2 * (2 * number + 5) / (9 * number * (number - 1)))
    return found | {"low": max(-1.0, min(float(low), tau - margin)), "high": min(1.0, max(float(high), tau + margin))}


def tau_text(tau: Mapping[str, float | None]) -> str:
    """What `kendall_tau` found as people read it."""
    if tau["low"] is None:
        return f"{tau['tau']:.2f}, too few for an interval"
    return f"{tau['tau']:.2f} (95 %: {tau['low']:.2f} to {tau['high']:.2f})"
