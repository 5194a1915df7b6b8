from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detrofit.grafting.additivity import kendall_tau, sum_error, tau_text

changes = st.floats(-5, 5).map(lambda value: round(value, 2))
sets = st.lists(st.sets(st.sampled_from("abcdef"), min_size=1), min_size=1, max_size=5, unique_by=frozenset)


def test_sums_that_are_off_by_a_factor_need_nothing_else():
    found = sum_error([("ab", 1, 2), ("b", 2, 4), ("c", 3, 6)])
    assert found.factor == pytest.approx(2) and max(map(abs, found.terms.values())) < 1e-12
    assert found.corrected("a", 0.5) == pytest.approx(1.0) and found.corrected("unseen", -1) == pytest.approx(-2)


def test_where_nothing_is_known_nothing_is_corrected():
    assert sum_error([]).corrected("a", 3.0) == 3.0
    assert sum_error([("a", 0, 0)]).corrected("a", 3.0) == 3.0


def test_savings_that_come_out_as_losses_do_not_turn_the_sign_of_others():
    found = sum_error([("ab", -2, 1)])
    assert found.factor == pytest.approx(-0.5), "it is told as it is"
    assert found.corrected("c", -1) == -1
    assert found.corrected("a", -1) + found.corrected("b", -1) == pytest.approx(1), "and these two no longer save"


@given(sets, st.lists(changes, min_size=6, max_size=6), st.data())
def test_corrected_sums_are_as_near_to_what_was_measured_as_terms_can_bring_them(chosen, single, data):
    alone = dict(zip("abcdef", single))
    predicted = [sum(alone[key] for key in each) for each in chosen]
    measured = data.draw(st.lists(changes, min_size=len(chosen), max_size=len(chosen)))
    found = sum_error(list(zip(map(sorted, chosen), predicted, measured)))
    rest = [true - sum(found.corrected(key, alone[key]) for key in each) for each, true in zip(chosen, measured)]
    for key in "abcdef":  # the gradient of the squares: nothing that one more term could take away is left
        assert sum(left for left, each in zip(rest, chosen) if key in each) == pytest.approx(0, abs=1e-6)


def test_kendalls_tau_has_an_interval():
    found = kendall_tau(range(10), [0, 1, 2, 3, 4, 5, 6, 7, 9, 8])
    assert found["tau"] == pytest.approx(43 / 45) and found["low"] < found["tau"] <= found["high"] <= 1
    assert found["number"] == 10
    assert found["high"] - found["low"] >= 0.4, "resampling alone is too sure of so few"
    assert kendall_tau([], []) is None and kendall_tau([1, 1], [2, 3]) is None


def test_orders_that_agree_by_chance_are_not_told_as_sure():
    same = kendall_tau(range(8), range(8))
    sd = (2 * 21 / (9 * 8 * 7)) ** 0.5
    assert (same["tau"], same["high"], same["low"]) == pytest.approx((1, 1, 1 - 1.96 * sd))
    few = kendall_tau(range(5), range(5))
    assert (few["low"], few["high"], few["number"]) == (None, None, 5)
    assert tau_text(few) == "1.00, too few for an interval"
    assert tau_text(same) == "1.00 (95 %: 0.43 to 1.00)"
