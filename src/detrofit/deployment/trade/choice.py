"""Points with what they give and cost, which of them no other beats, and the best that a budget allows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from detrofit.deployment.trade.points import Point
from detrofit.deployment.trade.timing import PointLatency
from detrofit.errors import DetrofitError

_UNITS = {"": 1.0, "ms": 1.0, "s": 1e3, "us": 1e-3, "µs": 1e-3}


@dataclass(frozen=True)
class TradePoint:
    """A point with COCO's summary (0..1) on the split of the choice, and its latency.

    `latency` is None where the point's exported file could not be had; `failure` then says why.
    """

    point: Point
    scores: dict[str, float]
    latency: PointLatency | None
    failure: str | None = None

    @property
    def ap(self) -> float:
        return self.scores["AP"]

    @property
    def milliseconds(self) -> float:
        """The median; infinite where it is not known."""
        return self.latency.milliseconds if self.latency else float("inf")


def pareto_front(points: Sequence[TradePoint]) -> list[TradePoint]:
    """The timed points that no other beats in AP without taking longer, fastest first.

    Of points equal in both, the first is kept.
    """
    timed = sorted((each for each in points if each.latency), key=lambda each: (each.milliseconds, -each.ap))
    front: list[TradePoint] = []
    for each in timed:
        if not front or each.ap > front[-1].ap:
            front.append(each)
    return front


def best_within(points: Sequence[TradePoint], budget: float) -> TradePoint:
    """The most accurate point of at most so many milliseconds; DetrofitError where none is that fast."""
    front = pareto_front(points)
    affordable = [each for each in front if each.milliseconds <= budget]
    if not affordable:
        fastest = f"the fastest point takes {front[0].milliseconds:.3g} ms" if front else "no point could be timed"
        raise DetrofitError(f"nothing fits into {budget:g} ms: {fastest}; give a larger --budget or smaller knobs")
    return affordable[-1]


def parse_budget(text: str) -> float:
    """Milliseconds from `20ms`, `0.02s` or a number of milliseconds."""
    found = re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+)\s*([a-zµ]*)", text.strip().lower())
    if found is None or found[2] not in _UNITS or float(found[1]) <= 0:
        raise DetrofitError(f"--budget takes a time, as in 20ms or 0.02s, not '{text}'")
    return float(found[1]) * _UNITS[found[2]]
