"""Expected costs: noise taken out, so that what was timed fastest by chance is not believed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detrofit.grafting.cost import Cost, LibraryCosts
from detrofit.grafting.expectation import expectation, expected_costs
from detrofit.grafting.library import KEEP, Candidate, GraftSlot
from detrofit.grafting.swap_sets import random_sets

SLOTS, CANDIDATES, NOISE = 12, 4, 0.009


def cost(ratio: float, error: float = NOISE) -> Cost:
    low, high = ratio - 1.96 * error, ratio + 1.96 * error
    return Cost(10 * ratio, 10 * low, 10 * high, ratio, low, high, 1000, 2000)


def slots_of(slots: int = SLOTS, candidates: int = CANDIDATES) -> list[GraftSlot]:
    names = [f"slot{number}" for number in range(slots)]
    return [GraftSlot(each, each, tuple(Candidate(each, str(n), {}) for n in range(candidates))) for each in names]


def timed(
    slots: list[GraftSlot], generator: np.random.Generator, stated: float = NOISE
) -> tuple[dict[str, float], LibraryCosts]:
    """What each swap saves, more by its slot than by itself, and times of all, with their noise and what they state."""
    saved = {}
    for slot in slots:
        typical = generator.uniform(0, 0.03)
        saved |= {each.key: typical + generator.normal(0, 0.004) for each in slot.candidates}
    single = {key: cost(1 - each + generator.normal(0, NOISE), stated) for key, each in saved.items()}
    sets = {}
    for chosen in random_sets(slots, 0).values():
        keys = tuple(each.key for each in chosen)
        sets[keys] = cost(1 - sum(saved[key] for key in keys) + generator.normal(0, NOISE), stated)
    return saved, LibraryCosts({KEEP: cost(1.0, 0.0), **single}, sets)


@pytest.mark.parametrize("stated", [NOISE, 0.7 * NOISE], ids=["true errors", "errors that are too small"])
def test_a_choice_keeps_what_it_promises(stated: float) -> None:
    generator, slots = np.random.default_rng(0), slots_of()
    broken: dict[str, list[float]] = {"raw": [], "without sets": [], "with sets": []}
    for _ in range(20):
        saved, library = timed(slots, generator, stated)
        told = {
            "raw": library.single,
            "without sets": expected_costs(LibraryCosts(library.single, {}), slots),
            "with sets": expected_costs(library, slots),
        }
        for name, costs in told.items():
            chosen = [min((each.key for each in slot.candidates), key=lambda key: costs[key].ratio) for slot in slots]
            promised = sum(1 - costs[key].ratio for key in chosen)
            broken[name].append(promised - sum(saved[key] for key in chosen))
    assert np.mean(broken["raw"]) > 0.06, "which is what makes it needed"
    assert abs(np.mean(broken["with sets"])) < 0.02
    spread = {name: np.sqrt(np.mean(np.square(each))) for name, each in broken.items()}
    assert spread["with sets"] < 0.7 * spread["without sets"] < spread["raw"], spread


def test_sets_that_save_less_than_their_swaps_alone_pull_those_down() -> None:
    slots = slots_of(4, 1)
    keys = [slot.candidates[0].key for slot in slots]
    single = {KEEP: cost(1.0, 0.0), **{key: cost(0.95, 0.01) for key in keys}}
    sets = {tuple(keys[:number]): cost(1 - 0.03 * number, 0.01) for number in (2, 3, 4)}
    expected = expected_costs(LibraryCosts(single, sets), slots)
    assert all(0.96 < expected[key].ratio < 0.98 for key in keys)


def test_an_error_of_the_original_s_own_time_is_told_from_what_swaps_save() -> None:
    saved, library = timed(slots_of(), np.random.default_rng(0))
    late = {key: replace(each, ratio=each.ratio - 0.025) for key, each in library.single.items() if key != KEEP}
    sets = {keys: replace(each, ratio=each.ratio - 0.025) for keys, each in library.sets.items()}
    expected = expected_costs(LibraryCosts({KEEP: library.single[KEEP], **late}, sets), slots_of())
    assert sum(1 - expected[key].ratio for key in saved) == pytest.approx(sum(saved.values()), rel=0.1)
    assert sum(1 - late[key].ratio for key in saved) > 2 * sum(saved.values()), "which is what makes it needed"


def test_differences_that_are_larger_than_noise_stay() -> None:
    values, errors = np.array([0.7, 0.8, 0.9, 1.0]), np.full(4, 0.005)
    assert expectation(np.eye(4), values, errors, np.eye(4)) == pytest.approx(values, abs=0.003)


def test_the_noisier_a_measurement_the_less_it_is_believed() -> None:
    values = np.array([0.9, 0.96, 0.97, 0.98, 0.99, 0.9])
    drawn = expectation(np.eye(6), values, np.array([0.01] * 5 + [0.1]), np.eye(6))
    assert drawn[0] < 0.93 and drawn[5] > 0.94


@pytest.mark.parametrize("values", [[0.9], [0.9, 1.1]])
def test_few_values_and_values_without_error_stay(values: list[float]) -> None:
    alone = np.eye(len(values))
    assert expectation(alone, np.array(values), np.full(len(values), 0.1), alone).tolist() == values
    exact = np.array([0.5, 0.9, 0.95, 1.0])
    assert expectation(np.eye(4), exact, np.zeros(4), np.eye(4)).tolist() == exact.tolist()


def test_latency_and_intervals_move_with_the_ratio_and_the_original_stays() -> None:
    slots = slots_of(3, 1)
    keys = [slot.candidates[0].key for slot in slots]
    single = {KEEP: cost(1.0, 0.0), **{key: cost(ratio, 0.05) for key, ratio in zip(keys, (0.8, 1.0, 0.9))}}
    expected = expected_costs(LibraryCosts(single, {}), slots)
    assert expected[KEEP] == single[KEEP] and list(expected) == list(single)
    for key in keys:
        then, now = single[key], expected[key]
        assert now.latency == pytest.approx(10 * now.ratio) and now.parameters == 1000
        assert now.ratio_high - now.ratio == pytest.approx(then.ratio_high - then.ratio)
    assert 0.8 < expected[keys[0]].ratio <= expected[keys[2]].ratio <= expected[keys[1]].ratio < 1.0
