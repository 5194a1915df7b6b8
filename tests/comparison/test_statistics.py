from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from detrofit.comparison import statistics
from detrofit.comparison.statistics import (
    PairedDifference,
    deciding_power,
    further_seeds,
    holm_levels,
    paired_difference,
    reachable,
    sign_flip_p,
    smallest_sign_flip_p,
    verdicts,
)
from tests.comparison.simulated_studies import Scenario, simulate_differences

STUDIES = 800
MARGIN = 0.5


@pytest.fixture
def words_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many more seeds would decide is left open: it takes most of the time, and changes no verdict."""
    monkeypatch.setattr(statistics, "further_seeds", lambda *arguments: None)


def at_most(count: int, studies: int) -> float:
    """The upper end of a share's one-sided 95 % Clopper-Pearson interval."""
    return float(beta.ppf(0.95, count + 1, studies - count))


def surely(count: int, studies: int) -> float:
    """The lower end."""
    return float(beta.ppf(0.05, count, studies - count + 1)) if count else 0.0


def difference(values: list[float], image_variance: float = 0.0) -> PairedDifference:
    return PairedDifference(tuple(values), float(np.var(values, ddof=1)), image_variance, 100)


@pytest.mark.usefixtures("words_alone")
@pytest.mark.parametrize("seeds", [3, 6])
@pytest.mark.parametrize(
    "scenario", [Scenario(), Scenario(seed=0.1, picture=0.8), Scenario(seed=0.8, picture=0.1)], ids=str
)
def test_no_difference_is_called_better_in_at_most_five_per_cent(scenario: Scenario, seeds: int) -> None:
    found = [verdicts([each], MARGIN)[0].word for each in simulate_differences(scenario, seeds, STUDIES)]
    better = found.count("better")
    assert at_most(better, STUDIES) <= 0.05, f"false 'better' in {better} of {STUDIES} studies"
    either = better + found.count("worse")
    assert surely(either, STUDIES) <= 0.05, f"false 'better' or 'worse' in {either} of {STUDIES} studies"


@pytest.mark.usefixtures("words_alone")
@pytest.mark.parametrize("seeds", [3, 6])
def test_a_difference_as_large_as_the_margin_is_called_the_same_in_at_most_five_per_cent(seeds: int) -> None:
    scenario = Scenario(effect=MARGIN, seed=0.2, picture=0.1, both=0.1)
    found = simulate_differences(scenario, seeds, STUDIES)
    same = [verdicts([each], MARGIN)[0].word for each in found].count("same within the margin")
    assert at_most(same, STUDIES) <= 0.05, f"false 'same' in {same} of {STUDIES} studies"
    sure = Scenario(seed=0.05, picture=0.05, both=0.05)
    words = [verdicts([each], MARGIN)[0].word for each in simulate_differences(sure, seeds, 100)]
    assert words.count("same within the margin") > 80, "and where there is no difference it is"


@pytest.mark.usefixtures("words_alone")
def test_four_variants_together_give_a_false_better_in_at_most_five_per_cent() -> None:
    each = simulate_differences(Scenario(), 6, 4 * 400)
    studies = [each[start : start + 4] for start in range(0, len(each), 4)]
    wrong = sum(any(verdict.word == "better" for verdict in verdicts(study, MARGIN)) for study in studies)
    assert at_most(wrong, len(studies)) <= 0.05, f"false 'better' in {wrong} of {len(studies)} studies"


@pytest.mark.usefixtures("words_alone")
def test_a_known_difference_is_found_with_the_stated_power() -> None:
    # docs/statistics.md states these: standard deviations 0.5, 0.3 and 0.3 AP points, 6 seeds.
    power = {}
    for effect in (0.5, 1.0, 1.5):
        found = simulate_differences(Scenario(effect=effect), 6, 400)
        power[effect] = np.mean([verdicts([each], MARGIN)[0].word == "better" for each in found])
    assert power[0.5] < power[1.0] < power[1.5]
    assert power[1.5] > 0.85, power
    assert power[1.0] > 0.5, power


def test_sign_flip_is_exact() -> None:
    assert sign_flip_p([1.0, 2.0, 3.0]) == pytest.approx(2 / 8)
    assert sign_flip_p([1.0, 2.0, -3.0]) == 1.0
    assert sign_flip_p([0.1] * 6) == pytest.approx(2 / 64), "rounding of sums must not lose ties"
    assert sign_flip_p([3.0, -1.0]) == pytest.approx(1.0)
    assert smallest_sign_flip_p(6) == pytest.approx(0.03125)


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=9))
def test_sign_flip_counts_every_sign_change(values: list[int]) -> None:
    sums = [abs(float(np.dot(signs, values))) for signs in itertools.product((1, -1), repeat=len(values))]
    assert sign_flip_p(values) == pytest.approx(np.mean([each >= sums[0] - 1e-9 for each in sums]))


def test_sign_flip_of_forty_seeds_is_exact_too() -> None:
    assert sign_flip_p([1.0] * 40) == 2 / 2**40


def test_holm_steps_down_and_keeps_the_level_at_which_it_stops() -> None:
    assert holm_levels([0.01, 0.04, 0.03]) == pytest.approx([0.05 / 3, 0.025, 0.025])
    assert holm_levels([0.001, 0.002, 0.2]) == pytest.approx([0.05 / 3, 0.025, 0.05])


def test_interval_and_p_value_agree() -> None:
    each = difference([0.2, 0.9, 0.5, 0.8], image_variance=0.02)
    low, _ = each.interval(each.p_value())
    assert low == pytest.approx(0, abs=1e-6)


def test_the_four_verdicts() -> None:
    study = [
        difference([2.0, 2.2, 1.9, 2.1, 2.0, 2.1, 1.8, 2.2]),
        difference([-2.0, -2.2, -1.9, -2.1, -2.0, -2.1, -1.8, -2.2]),
        difference([0.1, -0.1, 0.05, -0.05, 0.1, -0.1, 0.02, 0.0]),
        difference([2.0, -1.0, 1.5, -0.5, 1.0, 0.5, 1.8, -0.6]),
    ]
    found = verdicts(study, MARGIN)
    assert [each.word for each in found] == ["better", "worse", "same within the margin", "cannot tell"]
    assert all(each.sign_flip_counts for each in found), "8 seeds are enough for four variants"
    assert found[3].further_seeds is not None and found[3].further_seeds > 3
    assert found[0].further_seeds is None


def test_a_single_seed_never_decides() -> None:
    resampled = np.random.default_rng(0).normal(5, 0.1, (200, 1))
    each = paired_difference([5.0], resampled, 100)
    verdict = verdicts([each], MARGIN)[0]
    assert (verdict.word, verdict.further_seeds) == ("cannot tell", None)


@pytest.mark.usefixtures("words_alone")
def test_the_seeds_that_would_decide_do_so_in_simulated_studies() -> None:
    estimated = difference([2.0, -1.0, 1.5, -0.5, 1.0, 0.5])
    more = further_seeds(estimated, MARGIN, 0.05)
    assert more is not None
    true = Scenario(effect=estimated.mean, seed=estimated.seed_variance**0.5, picture=0, both=0)
    decided = {}
    for seeds in (6 + more // 3, 6 + more):
        words = [verdicts([each], MARGIN)[0].word for each in simulate_differences(true, seeds, 150)]
        decided[seeds] = np.mean([word != "cannot tell" for word in words])
    few, many = decided.values()
    assert few < 0.75 < many, decided


def test_few_seeds_that_must_all_agree_decide_less_often() -> None:
    # Of six seeds all must point one way (p = 2 / 64); of five the test is not asked.
    estimated = difference([1.0, 1.4, 0.2, 0.9, 0.1])
    five, six = (deciding_power(estimated, MARGIN, 0.05, seeds) for seeds in (5, 6))
    assert abs(six - five) < 0.15, "one more seed, and one more test that must agree"


def test_where_pictures_limit_no_number_of_seeds_is_promised() -> None:
    assert further_seeds(difference([0.3, 0.4, 0.2, 0.35], image_variance=4.0), MARGIN, 0.05) is None


def test_noise_of_a_seed_on_pictures_is_not_counted_twice() -> None:
    scenario = Scenario(seed=0.0, picture=0.0, both=0.8)
    found = simulate_differences(scenario, 6, 300)
    estimated = np.mean([each.seed_variance / 6 + each.image_variance for each in found])
    assert estimated == pytest.approx(0.8**2 / 6, rel=0.25)


def test_reach_says_what_few_seeds_cannot_show() -> None:
    assert not reachable(5, 1, MARGIN).sign_flip_counts and reachable(6, 1, MARGIN).sign_flip_counts
    assert not reachable(7, 4, MARGIN).sign_flip_counts and reachable(8, 4, MARGIN).sign_flip_counts
    assert reachable(3, 1, MARGIN).visible == pytest.approx(2.48, abs=0.01)
    assert "cannot tell" in str(reachable(1, 1, MARGIN))


def test_a_variant_without_a_finished_run_counts_as_tried() -> None:
    each = difference([1.0, 1.5, 0.6, 1.2, 0.9, 0.4])
    (alone,), (of_four,) = verdicts([each], MARGIN), verdicts([each], MARGIN, tried=4)
    assert (alone.level, of_four.level) == (pytest.approx(0.05), pytest.approx(0.0125))
    assert alone.sign_flip_counts and not of_four.sign_flip_counts


@pytest.mark.usefixtures("words_alone")
@pytest.mark.parametrize(("seeds", "variants"), [(3, 1), (6, 1), (8, 4)])
def test_the_difference_that_is_found_is_found_in_simulated_studies(seeds: int, variants: int) -> None:
    reach = reachable(seeds, variants, MARGIN)
    assert reach.visible < reach.found < 3 * reach.visible
    scenario = Scenario(effect=reach.found, seed=1.0, picture=0.0, both=0.0)
    found = simulate_differences(scenario, seeds, 300)
    share = np.mean([verdicts([each], MARGIN, tried=variants)[0].word == "better" for each in found])
    assert share == pytest.approx(0.8, abs=0.08)
