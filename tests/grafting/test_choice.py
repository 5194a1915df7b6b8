"""The integer program against trying everything."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detrofit.grafting.choice import Choice, ChoiceProgram, Option
from detrofit.grafting.library import GraftSlot

SLOTS = [
    GraftSlot("backbone.stage4", "backbone.stage4", ()),
    GraftSlot("backbone.stage4.block0", "backbone.stage4.block0", ()),
    GraftSlot("backbone.stage4.block1", "backbone.stage4.block1", ()),
    GraftSlot("encoder.fusion_block0", "encoder.fusion.top_down.stride16", ()),
]
losses = st.integers(-5, 20).map(lambda n: n / 4)
changes = st.integers(-8, 4)
candidates = st.lists(st.tuples(losses, changes, changes), max_size=3)


def options(library) -> list[Option]:
    return [
        Option(slot.address, f"{slot.address}={number}", loss, {"latency": ms, "parameters": count})
        for slot, group in zip(SLOTS, library)
        for number, (loss, ms, count) in enumerate(group)
    ]


def everything(all_options, room):
    """Every allowed choice within the room: (loss, keys)."""
    by_slot = [[None, *(option for option in all_options if option.slot == slot.address)] for slot in SLOTS]
    for combination in itertools.product(*by_slot):
        chosen = [option for option in combination if option]
        slots = {option.slot for option in chosen}
        if "backbone.stage4" in slots and slots & {"backbone.stage4.block0", "backbone.stage4.block1"}:
            continue
        if all(sum(option.costs[kind] for option in chosen) <= limit for kind, limit in room.items()):
            yield sum(option.loss for option in chosen), frozenset(option.key for option in chosen)


@given(st.tuples(*[candidates] * 4), st.integers(-20, 3), st.integers(-20, 3))
def test_the_best_few_are_those_of_trying_everything(library, latency, parameters):
    all_options, room = options(library), {"latency": latency, "parameters": parameters}
    expected = sorted(loss for loss, _ in everything(all_options, room))
    found = ChoiceProgram(SLOTS, all_options).best(room, count=4)
    assert [choice.loss for choice in found] == pytest.approx(expected[:4])
    assert len({frozenset(choice.keys) for choice in found}) == len(found)
    allowed = {keys for _, keys in everything(all_options, room)}
    assert all(frozenset(choice.keys) in allowed for choice in found)


@given(st.tuples(*[candidates] * 4))
def test_the_cheapest_is_the_least_that_can_be_asked(library):
    all_options = options(library)
    lowest = min(
        sum(option.costs["latency"] for option in all_options if option.key in keys)
        for _, keys in everything(all_options, {})
    )
    program = ChoiceProgram(SLOTS, all_options)
    assert program.cheapest("latency").costs.get("latency", 0) == pytest.approx(lowest)
    assert program.best({"latency": lowest}) and not program.best({"latency": lowest - 1})


@given(st.tuples(*[candidates] * 4), st.integers(-20, 3))
def test_the_cheapest_holds_the_room_of_others_where_it_can(library, parameters):
    all_options, room = options(library), {"parameters": parameters}
    within = [keys for _, keys in everything(all_options, room)] or [keys for _, keys in everything(all_options, {})]
    lowest = min(sum(option.costs["latency"] for option in all_options if option.key in keys) for keys in within)
    found = ChoiceProgram(SLOTS, all_options).cheapest("latency", room)
    assert found.costs.get("latency", 0) == pytest.approx(lowest) and frozenset(found.keys) in within


def test_what_diverged_is_never_chosen_and_the_original_stays_possible():
    program = ChoiceProgram(SLOTS, [Option("backbone.stage4", "bad", math.nan, {"latency": -5.0})])
    assert program.best({"latency": 0}) == [Choice((), 0.0, {})]
    assert program.best({"latency": -1}) == []
