"""What single swaps cost once noise is taken out: of many noisy measurements the best ones flatter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from detrofit.grafting.cost import Cost
from detrofit.grafting.library import KEEP

FEWEST = 3  # that differences can be told from noise
_Z95 = 1.96


def expected_costs(costs: Mapping[str, Cost]) -> dict[str, Cost]:
    """The costs with each swap's latency drawn towards the mean of all, the more the wider its own interval is.

    A choice takes whatever was timed fastest in each slot, so that sums of raw times promise what no model keeps.
    """
    swaps = [key for key in costs if key != KEEP]
    ratios = np.array([costs[key].ratio for key in swaps])
    errors = np.array([(costs[key].ratio_high - costs[key].ratio_low) / (2 * _Z95) for key in swaps])
    moved = dict(zip(swaps, (drawn_together(ratios, errors) - ratios).tolist(), strict=True))
    return {key: _moved(cost, moved[key]) if key in moved else cost for key, cost in costs.items()}


def drawn_together(values: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """The expectation of each true value, given measured ones `[N]` and their standard errors `[N]`.

    True values are taken as normal around a common mean, with the variance that the errors leave unexplained
    (DerSimonian and Laird's moments). With few values, or without errors, they stay as they are.
    """
    if len(values) < FEWEST or not errors.any():
        return values
    noise = np.maximum(errors, 1e-3 * errors.max()) ** 2
    weights = 1 / noise
    mean = np.average(values, weights=weights)
    excess = weights @ (values - mean) ** 2 - (len(values) - 1)
    variance = max(0.0, float(excess / (weights.sum() - (weights @ weights) / weights.sum())))
    centre = np.average(values, weights=1 / (noise + variance))
    return centre + variance / (variance + noise) * (values - centre)


def _moved(cost: Cost, change: float) -> Cost:
    """A cost whose ratio to the teacher is changed, and its latency with it; intervals move along."""
    teacher = cost.latency / cost.ratio
    ratio = {name: getattr(cost, name) + change for name in ("ratio", "ratio_low", "ratio_high")}
    latency = {name: getattr(cost, name) + change * teacher for name in ("latency", "latency_low", "latency_high")}
    return replace(cost, **ratio, **latency)
