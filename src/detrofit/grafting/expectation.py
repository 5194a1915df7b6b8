"""What swaps are expected to save, from noisy times of each alone and of whole sets: the luckiest are not believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from detrofit.grafting.cost import Cost, LibraryCosts
from detrofit.grafting.library import KEEP, GraftSlot

FEWEST = 3  # measurements that differences can be told from noise with
_SPREADS = np.geomspace(1e-3, 1e3, 61)  # variances that are tried, in units of the noise's
_NOISES = (1.0, 1.5, 2.0, 3.0, 4.0)  # times its stated variance: rounds in a row are alike, which no interval knows
_SHARED_ERROR = 0.02  # of all ratios of a library, by the teacher's own time: it was found 0.01 to 0.03 too long
_LEAST_ERROR = 1e-4  # of a ratio: no clock is better
_Z95 = 1.96


def expected_costs(library: LibraryCosts, slots: Sequence[GraftSlot]) -> dict[str, Cost]:
    """The teacher's cost, and that of each swap with the latency that all that was timed leads one to expect.

    A choice takes whatever was timed fastest in each slot, so that sums of raw times promise what no model keeps.
    """
    keys, places = zip(*((each.key, place) for place, slot in enumerate(slots) for each in slot.candidates))
    together = [(key,) for key in keys] + list(library.sets)
    measured = [*(library.single[key] for key in keys), *library.sets.values()]
    expected = expectation(
        np.array([[float(key in each) for key in keys] for each in together]),
        np.array([each.ratio - 1 for each in measured]),
        np.array([(each.ratio_high - each.ratio_low) / (2 * _Z95) for each in measured]),
        np.eye(len(keys)) + np.equal.outer(places, places),  # those of one slot are more alike than others
    )
    costs = {key: _moved(library.single[key], 1 + change) for key, change in zip(keys, expected.tolist())}
    return {KEEP: library.single[KEEP], **costs}


def expectation(design: np.ndarray, sums: np.ndarray, errors: np.ndarray, alike: np.ndarray) -> np.ndarray:
    """Each effect `[K]`, given sums over some of them `[N]` and their standard errors `[N]`.

    Effects are taken as normal around a common mean with covariances `alike` `[K,K]` times a factor, and the errors as
    up to twice as large as stated: whatever makes the sums most likely (empirical Bayes). An error that all sums share
    is not taken for an effect. Few sums, or exact ones, stay as they are.

    Args:
        design: `[N,K]`, 1 where an effect is in a sum; the first K rows are the effects alone.
    """
    if len(sums) < FEWEST or not errors.any():
        return sums[: design.shape[1]]
    noise = np.maximum(errors, _LEAST_ERROR) ** 2
    count = design.sum(axis=1)
    spread = design @ alike @ design.T

    def fitted(variance: float, scale: float) -> tuple[float, np.ndarray]:
        """The logarithm of the likelihood, and the effects."""
        inverse = np.linalg.inv(scale * np.diag(noise) + _SHARED_ERROR**2 + variance * spread)
        mean = (count @ inverse @ sums) / (count @ inverse @ count)
        rest = sums - mean * count
        weighted = inverse @ rest
        return np.linalg.slogdet(inverse)[1] - rest @ weighted, mean + variance * alike @ design.T @ weighted

    tried = (fitted(variance, scale) for variance in np.median(noise) * _SPREADS for scale in _NOISES)
    return max(tried, key=lambda each: each[0])[1]


def _moved(cost: Cost, expected: float) -> Cost:
    """A cost with another ratio to the teacher, and its latency with it; intervals move along."""
    teacher, change = cost.latency / cost.ratio, expected - cost.ratio
    ratio = {name: getattr(cost, name) + change for name in ("ratio", "ratio_low", "ratio_high")}
    latency = {name: getattr(cost, name) + change * teacher for name in ("latency", "latency_low", "latency_high")}
    return replace(cost, **ratio, **latency)
