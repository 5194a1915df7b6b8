"""How far sums over single swaps are from what is measured once they stand together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000


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


def kendall_tau(predicted: Sequence[float], measured: Sequence[float]) -> dict[str, float] | None:
    """Kendall's tau between two orders, with a 95 % interval from resampled pairs; None where it has no meaning."""
    from scipy.stats import kendalltau

    x, y = np.array(predicted, float), np.array(measured, float)
    if len(set(x)) < 2 or len(set(y)) < 2:
        return None
    generator = np.random.default_rng(0)
    draws = [generator.integers(len(x), size=len(x)) for _ in range(RESAMPLES)]
    taus = [value for draw in draws if np.isfinite(value := kendalltau(x[draw], y[draw]).statistic)]
    low, high = np.quantile(taus, [0.025, 0.975])
    return {"tau": float(kendalltau(x, y).statistic), "low": float(low), "high": float(high), "number": len(x)}
