"""Random sets of swaps: half as many as candidates, each with several, none with two of one place."""

from __future__ import annotations

from collections import Counter

from detrofit.grafting.library import Candidate, GraftSlot
from detrofit.grafting.swap_sets import FEWEST_SETS, random_sets


def slot(address: str, candidates: int) -> GraftSlot:
    return GraftSlot(address, address, tuple(Candidate(address, str(number), {}) for number in range(candidates)))


def test_sets_are_as_many_as_asked_for_and_the_same_for_the_same_seed() -> None:
    slots = [slot(f"stage{number}", 4) for number in range(10)]
    sets = random_sets(slots, 0)
    assert len(sets) == 20 and random_sets(slots, 0) == sets != random_sets(slots, 1)
    assert len({tuple(each.key for each in chosen) for chosen in sets.values()}) == 20
    found = Counter(each.key for chosen in sets.values() for each in chosen)
    assert len(found) > 36 and all(len(chosen) > 1 for chosen in sets.values())


def test_of_slots_that_lie_in_each_other_a_set_has_one() -> None:
    slots = [slot("stage1", 2), slot("stage1.block0", 2), slot("stage2", 3)]
    for chosen in random_sets(slots, 0).values():
        assert len({each.slot[:6] for each in chosen}) == len(chosen) == 2


def test_where_few_sets_differ_there_are_no_more() -> None:
    assert random_sets([slot("stage1", 5)], 0) == {}
    assert 1 <= len(random_sets([slot("stage1", 1), slot("stage2", 1)], 0)) < FEWEST_SETS
