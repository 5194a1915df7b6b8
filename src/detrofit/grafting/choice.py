"""Which candidates to take together: an integer program over single scores and costs (as in LANA, arXiv:2107.10624)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detrofit.grafting.library import GraftSlot


@dataclass(frozen=True)
class Option:
    """A candidate as the program sees it: what it adds to the loss and, by kind, to the cost."""

    slot: str
    key: str
    loss: float
    costs: Mapping[str, float]


@dataclass(frozen=True)
class Choice:
    """Candidates' keys, at most one a slot, and the sums that they are chosen for."""

    keys: tuple[str, ...]
    loss: float
    costs: Mapping[str, float]


class ChoiceProgram:
    """At most one candidate a slot, none of two slots that overlap, least summed loss within the room of each cost.

    Options whose loss is not a number are left out.
    """

    def __init__(self, slots: Sequence[GraftSlot], options: Iterable[Option]) -> None:
        self.options = [option for option in options if math.isfinite(option.loss)]
        self._rows = [self._in([slot.address]) for slot in slots]
        pairs = [(one, other) for number, one in enumerate(slots) for other in slots[:number] if one.overlaps(other)]
        self._rows += [self._in([one.address, other.address]) for one, other in pairs]

    def best(self, room: Mapping[str, float], count: int = 1) -> list[Choice]:
        """The best choices in order, up to `count`, each other than those before it.

        `room` is what each kind of cost may add to the teacher's: negative where it must fall. Empty where nothing
        meets it.
        """
        cuts: list[tuple[np.ndarray, float]] = []
        found: list[Choice] = []
        while len(found) < count:
            taken = self._solve(np.array([option.loss for option in self.options]), room, cuts)
            if taken is None:
                break
            found.append(self._choice(taken))
            cuts.append((np.where(taken, 1.0, -1.0), taken.sum() - 1))  # one must fall out, or another come in
        return found

    def cheapest(self, kind: str, room: Mapping[str, float] | None = None) -> Choice:
        """The choice of least cost of a kind within the room of others or, where nothing meets that, of all."""
        cost = np.array([option.costs[kind] for option in self.options])
        taken = self._solve(cost, room or {}, [])
        if taken is None:
            taken = self._solve(cost, {}, [])
        assert taken is not None, "the original itself is always possible"
        return self._choice(taken)

    def _solve(
        self, objective: np.ndarray, room: Mapping[str, float], cuts: Sequence[tuple[np.ndarray, float]]
    ) -> np.ndarray | None:
        from scipy.optimize import Bounds, LinearConstraint, milp

        rows = [(row, 1.0) for row in self._rows]
        rows += [(np.array([option.costs[kind] for option in self.options]), limit) for kind, limit in room.items()]
        rows += list(cuts)
        if not self.options:
            return np.zeros(0, bool) if all(limit >= 0 for limit in room.values()) and not cuts else None
        result = milp(
            objective,
            integrality=np.ones(len(objective)),
            bounds=Bounds(0, 1),
            constraints=[LinearConstraint(np.array([row for row, _ in rows]), -np.inf, [limit for _, limit in rows])],
        )
        return None if result.x is None else result.x > 0.5

    def _in(self, addresses: Sequence[str]) -> np.ndarray:
        return np.array([float(option.slot in addresses) for option in self.options])

    def _choice(self, taken: np.ndarray) -> Choice:
        chosen = [option for option, take in zip(self.options, taken) if take]
        kinds = {kind for option in self.options for kind in option.costs}
        costs = {kind: math.fsum(option.costs[kind] for option in chosen) for kind in sorted(kinds)}
        return Choice(tuple(option.key for option in chosen), math.fsum(option.loss for option in chosen), costs)
