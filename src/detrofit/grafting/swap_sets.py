"""Random sets of swaps, to be timed whole beside single swaps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detrofit.grafting.library import Candidate, GraftSlot
from detrofit.randomness import derive_seed

SETS_PER_CANDIDATE = 0.5
FEWEST_SETS = 8
_ATTEMPTS = 10  # at each set: of a few slots there are few that differ


def random_sets(slots: Sequence[GraftSlot], seed: int) -> dict[str, tuple[Candidate, ...]]:
    """Sets of two and more candidates by name, half as many as there are candidates; the same for the same seed.

    Things that are weighed many at a time are known more exactly than from as many weighings of each alone (Hotelling
    1944, "Some improvements in weighing and other experimental techniques").
    """
    generator = np.random.default_rng(derive_seed(seed, "sets of swaps"))
    wanted = max(FEWEST_SETS, round(SETS_PER_CANDIDATE * sum(len(slot.candidates) for slot in slots)))
    found: dict[tuple[str, ...], tuple[Candidate, ...]] = {}
    for _ in range(_ATTEMPTS * wanted):
        if len(found) == wanted:
            break
        drawn = draw_candidates(slots, generator)
        if len(drawn) > 1:
            found[tuple(each.key for each in drawn)] = drawn
    return {f"set-{number}": drawn for number, drawn in enumerate(found.values())}


def draw_candidates(slots: Sequence[GraftSlot], generator: np.random.Generator) -> tuple[Candidate, ...]:
    """For each slot one of its candidates or the original, all alike; of slots that overlap the first drawn counts."""
    drawn: dict[int, Candidate] = {}
    for number in generator.permutation(len(slots)).tolist():
        slot = slots[number]
        place = int(generator.integers(len(slot.candidates) + 1))
        if place < len(slot.candidates) and not any(slot.overlaps(slots[other]) for other in drawn):
            drawn[number] = slot.candidates[place]
    return tuple(drawn[number] for number in sorted(drawn))
