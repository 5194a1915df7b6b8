from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detrofit.comparison.pareto import Cost, exact, on_front, pareto_points
from tests.comparison.report_cases import BASE, Drawn, drawn_study

VALUES = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=7)


@given(VALUES)
def test_the_front_is_what_no_other_beats(points: list[tuple[int, int]]) -> None:
    ap, cost = np.array(points, float).T
    front = on_front(ap[None], cost[None])[0]
    for place, (own_ap, own_cost) in enumerate(points):
        beaten = any(
            other_ap >= own_ap and other_cost <= own_cost and (other_ap, other_cost) != (own_ap, own_cost)
            for other_ap, other_cost in points
        )
        assert front[place] != beaten
    assert front.any()


def test_uncertainty_of_both_decides_how_often_a_variant_is_on_the_front() -> None:
    results = drawn_study((BASE, Drawn("far ahead", 4.0), Drawn("even", 0.0)), epochs=2)
    sure = {"base": exact(10.0), "far ahead": exact(8.0), "even": exact(9.0)}
    share = {each.name: each.share for each in pareto_points(results, sure)}
    assert share == {"base": 0.0, "far ahead": 1.0, "even": 0.0}
    unsure = {**sure, "base": Cost(10.0, 6.0, 16.0), "far ahead": Cost(8.0, 5.0, 13.0)}
    share = {each.name: each.share for each in pareto_points(results, unsure)}
    assert share["far ahead"] == 1.0, "the best in AP is on the front whatever it costs"
    assert 0.05 < share["base"] < 0.6 and 0 < share["even"] < 1, "the others are, where they come out cheaper"


def test_bars_are_those_of_the_difference_to_the_base() -> None:
    results = drawn_study((BASE, Drawn("one", 1.0)), epochs=2)
    base, one = pareto_points(results, {"base": exact(1.0), "one": exact(1.0)})
    numbers = results["comparisons"][0]["metrics"]["AP"]
    assert base.ap_interval is None and one.ap_interval is not None
    assert one.ap - one.ap_interval[0] == pytest.approx(numbers["difference"] - numbers["interval"][0])
    assert not base.on_front and one.on_front


def test_what_has_no_cost_or_no_runs_is_left_out() -> None:
    results = drawn_study((BASE, Drawn("one", 1.0)), epochs=2)
    assert [each.name for each in pareto_points(results, {"base": exact(1.0)})] == ["base"]
    assert pareto_points(results, {}) == []
