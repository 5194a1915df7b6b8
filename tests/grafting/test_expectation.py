"""Expected costs: noise taken out, so that what was timed fastest by chance is not believed."""

from __future__ import annotations

import numpy as np
import pytest

from detrofit.grafting.cost import Cost
from detrofit.grafting.expectation import drawn_together, expected_costs
from detrofit.grafting.library import KEEP

SLOTS, CANDIDATES, SAVED, NOISE = 10, 4, 0.02, 0.015


def cost(ratio: float, error: float) -> Cost:
    low, high = ratio - 1.96 * error, ratio + 1.96 * error
    return Cost(10 * ratio, 10 * low, 10 * high, ratio, low, high, 1000, 2000)


def test_the_fastest_of_many_equal_swaps_promise_no_more_than_they_keep() -> None:
    generator = np.random.default_rng(0)
    promised = {"raw": [], "expected": []}
    for _ in range(50):
        times = generator.normal(1 - SAVED, NOISE, SLOTS * CANDIDATES)
        costs = {str(number): cost(time, NOISE) for number, time in enumerate(times)} | {KEEP: cost(1.0, 0.0)}
        for name, told in (("raw", costs), ("expected", expected_costs(costs))):
            ratios = np.array([told[str(number)].ratio for number in range(len(times))]).reshape(SLOTS, CANDIDATES)
            promised[name].append((1 - ratios).max(axis=1).sum())
    assert np.mean(promised["raw"]) > 1.5 * SLOTS * SAVED, "which is what makes it needed"
    assert np.mean(promised["expected"]) == pytest.approx(SLOTS * SAVED, rel=0.2)


def test_differences_that_are_larger_than_noise_stay() -> None:
    values, errors = np.array([0.7, 0.8, 0.9, 1.0]), np.full(4, 0.005)
    assert drawn_together(values, errors) == pytest.approx(values, abs=0.002)


def test_the_noisier_a_measurement_the_less_it_is_believed() -> None:
    drawn = drawn_together(np.array([0.9, 0.96, 0.97, 0.98, 0.99, 0.9]), np.array([0.01] * 5 + [0.1]))
    assert drawn[0] < 0.92 and drawn[5] > 0.94


@pytest.mark.parametrize("values", [[], [0.9], [0.9, 1.1]])
def test_few_values_and_values_without_error_stay(values: list[float]) -> None:
    assert drawn_together(np.array(values), np.full(len(values), 0.1)).tolist() == values
    exact = np.array([0.5, 0.9, 0.95, 1.0])
    assert drawn_together(exact, np.zeros(4)).tolist() == exact.tolist()


def test_latency_and_intervals_move_with_the_ratio_and_the_original_stays() -> None:
    costs = {KEEP: cost(1.0, 0.0), "a": cost(0.8, 0.05), "b": cost(1.0, 0.05), "c": cost(0.9, 0.05)}
    expected = expected_costs(costs)
    assert expected[KEEP] == costs[KEEP]
    for key in "abc":
        assert expected[key].latency == pytest.approx(10 * expected[key].ratio)
        assert expected[key].ratio_high - expected[key].ratio == pytest.approx(costs[key].ratio_high - costs[key].ratio)
        assert expected[key].parameters == 1000
    assert 0.8 < expected["a"].ratio <= expected["c"].ratio <= expected["b"].ratio < 1.0
