"""Simulated studies, to measure how often verdicts are wrong; `python -m tests.comparison.simulated_studies` prints it.

A difference of AP is simulated as a mean over pictures: a true effect, a draw for each seed, a heavy-tailed draw for
each picture that all seeds share, and noise of each seed on each picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detrofit.comparison.statistics import PairedDifference, paired_difference
from detrofit.evaluation.resampled_ap import bootstrap_weights


@dataclass(frozen=True)
class Scenario:
    """Standard deviations of the mean over all pictures, in AP points."""

    effect: float = 0.0
    seed: float = 0.5
    picture: float = 0.3
    both: float = 0.3
    pictures: int = 60


def simulate(
    generator: np.random.Generator, scenario: Scenario, seeds: int, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Differences `[n]` and their resamples `[R, n]` of one variant."""
    scale = scenario.pictures**0.5
    shared = generator.standard_t(5, (scenario.pictures, 1)) / (5 / 3) ** 0.5 * scenario.picture * scale
    noise = generator.normal(0, scenario.both * scale, (scenario.pictures, seeds))
    values = scenario.effect + generator.normal(0, scenario.seed, seeds) + shared + noise
    return values.mean(axis=0), weights @ values / scenario.pictures


def simulate_differences(
    scenario: Scenario, seeds: int, studies: int, resamples: int = 100, seed: int = 0
) -> list[PairedDifference]:
    """The difference of one variant in each of so many studies."""
    generator = np.random.default_rng(seed)
    weights = bootstrap_weights(scenario.pictures, resamples, seed=1).astype(np.float64)
    return [
        paired_difference(*simulate(generator, scenario, seeds, weights), scenario.pictures) for _ in range(studies)
    ]


def percentile_misses(scenario: Scenario, seeds: int, studies: int, resamples: int = 300) -> float:
    """How often the plain two-level percentile interval misses the true effect."""
    generator = np.random.default_rng(0)
    weights = bootstrap_weights(scenario.pictures, resamples, seed=1).astype(np.float64)
    missed = 0
    for _ in range(studies):
        _, resampled = simulate(generator, scenario, seeds, weights)
        drawn = generator.integers(0, seeds, (resamples, seeds))
        low, high = np.quantile(np.take_along_axis(resampled, drawn, axis=1).mean(axis=1), [0.025, 0.975])
        missed += not low <= scenario.effect <= high
    return missed / studies


def misses(differences: list[PairedDifference], effect: float) -> float:
    """How often the 95 % interval misses the true effect."""
    return float(np.mean([not low <= effect <= high for low, high in (each.interval() for each in differences)]))


SCENARIOS = {
    "seeds dominate": Scenario(seed=0.8, picture=0.1, both=0.2),
    "both alike": Scenario(),
    "pictures dominate": Scenario(seed=0.1, picture=0.8, both=0.3),
    "seed-picture noise": Scenario(seed=0.1, picture=0.1, both=0.8),
    "nothing shared": Scenario(seed=0.5, picture=0.0, both=0.5),
}


def main(studies: int = 2000) -> None:
    print("share of 95 % intervals that miss the truth: plain percentile / this method")
    for name, scenario in SCENARIOS.items():
        row = [
            f"n={seeds}: {percentile_misses(scenario, seeds, studies):.3f} / "
            f"{misses(simulate_differences(scenario, seeds, studies), scenario.effect):.3f}"
            for seeds in (3, 4, 6, 8)
        ]
        print(f"{name:20} " + "   ".join(row))


if __name__ == "__main__":
    main()
