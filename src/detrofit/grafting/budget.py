"""What a grafted model may cost at most."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from detrofit.errors import DetrofitError

Kind = Literal["latency", "parameters"]
_FORM = re.compile(r"(\d+(?:\.\d+)?)(x|ms|Mparams|xparams)")


class BudgetError(DetrofitError):
    """Nothing meets the budget; the message names the nearest."""


@dataclass(frozen=True)
class Budget:
    """A limit: so many milliseconds or parameters, or, `relative`, so many times the teacher's."""

    kind: Kind
    amount: float
    relative: bool
    text: str

    def limit(self, teacher: float) -> float:
        """The limit in milliseconds or parameters, for a teacher that costs so much."""
        return self.amount * teacher if self.relative else self.amount


def parse_budget(text: str) -> Budget:
    """`0.7x` and `20ms` of latency, `0.6xparams` and `3Mparams` of parameters; DetrofitError otherwise."""
    match = _FORM.fullmatch(text.strip())
    if match is None or float(match[1]) <= 0:
        raise DetrofitError(f"--budget takes 0.7x, 20ms, 0.6xparams or 3Mparams, not '{text}'")
    amount, unit = float(match[1]), match[2]
    kind: Kind = "parameters" if unit.endswith("params") else "latency"
    scale = 1e6 if unit == "Mparams" else 1.0
    return Budget(kind, amount * scale, unit.startswith("x"), text.strip())


def limits(budgets: Iterable[Budget], teacher: dict[str, float]) -> dict[str, float]:
    """The lowest limit of each kind, from several budgets that all count; `teacher` is its cost by kind."""
    result: dict[str, float] = {}
    for budget in budgets:
        limit = budget.limit(teacher[budget.kind])
        result[budget.kind] = min(limit, result.get(budget.kind, limit))
    return result
