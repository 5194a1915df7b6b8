"""Grafting from top to bottom: lighter parts into a trained model, chosen by what they cost and lose on one's data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detrofit.errors import DetrofitError
from detrofit.grafting.assemble import Assembled, assemble_choices
from detrofit.grafting.budget import limits
from detrofit.grafting.choice import Choice, ChoiceProgram, Option, slope
from detrofit.grafting.cost import Cost, cost_library
from detrofit.grafting.finish import finish
from detrofit.grafting.knobs import free_knobs
from detrofit.grafting.library import KEEP
from detrofit.grafting.results import kept_of, make_results, write_results
from detrofit.grafting.score import Score, Scorer, control, score_library
from detrofit.grafting.training import train_library
from detrofit.grafting.workshop import GraftSettings, Workshop, open_workshop

LEVELS = (0.25, 0.5, 0.75, 1.0)  # of the way from the teacher's latency to the least, where no budget is given
DEFAULTS = GraftSettings()


@dataclass(frozen=True)
class GraftResult:
    """A finished graft: its folder, the content of its results.json, and the model file that it recommends."""

    folder: Path
    results: dict[str, Any]
    best: Path


def graft(file: str | Path, data: str | Path, out: str | Path, settings: GraftSettings = DEFAULTS) -> GraftResult:
    """Replace parts of a trained model by lighter ones that do nearly the same; `out` keeps everything.

    Called again with the same `out` it goes on where it was stopped, and other budgets reuse all that is there. Raises
    DetrofitError for anything that a user can cause; nothing that was done is lost.
    """
    workshop = open_workshop(Path(file), Path(data), Path(out), settings)
    with workshop.clock("scoring"):
        scorer = Scorer(workshop)
        scorer.check()
        random_numbers = control(workshop, scorer)
    knobs: list[dict[str, Any]] = []
    if settings.knobs:
        with workshop.clock("free knobs"):
            knobs = free_knobs(workshop)
    with workshop.clock("local training"):
        states, errors = train_library(workshop)
    with workshop.clock("scoring"):
        scores = score_library(workshop, scorer, states)
    with workshop.clock("timing"):
        costs = cost_library(workshop, states)
    with workshop.clock("assembling"):
        assembled, corrections = _choose(workshop, scorer, states, scores, costs)
    finished: dict[str, dict[str, Any]] = {}
    if settings.finish_epochs:
        with workshop.clock("finish"):
            files = {
                KEEP: workshop.file,
                **{each.name: each.file for each in kept_of(workshop, assembled, costs[KEEP])},
            }
            finished = finish(workshop, scorer, files, settings.finish_epochs)
    results = make_results(
        workshop, scorer, random_numbers, errors, scores, costs, assembled, corrections, finished, knobs
    )
    best = write_results(workshop, results)
    return GraftResult(workshop.folder, results, best)


def _choose(
    workshop: Workshop, scorer: Scorer, states: Any, scores: Mapping[str, Score], costs: Mapping[str, Cost]
) -> tuple[list[Assembled], dict[str, float]]:
    """Choose, assemble and measure; correct the sums once by what was measured, and do it again.

    Gives all that was assembled, and the factors by which sums must be multiplied to meet what was measured.
    """
    first = _choices(workshop, scores, costs, 1.0, 1.0)
    assembled = assemble_choices(workshop, scorer, first, states, costs, scores)
    teacher = costs[KEEP].latency
    corrections = {
        "loss": slope([each.predicted_loss for each in assembled], [each.score.total for each in assembled]),
        "latency": slope(
            [each.predicted_latency - teacher for each in assembled],
            [teacher * (each.cost.ratio - 1) for each in assembled],
        ),
    }
    again = _choices(workshop, scores, costs, corrections["loss"], corrections["latency"], fallback=True)
    together = {choice.keys: choice for choice in (*first, *again)}
    if len(together) > len({choice.keys for choice in first}):
        assembled = assemble_choices(workshop, scorer, list(together.values()), states, costs, scores)
    return assembled, corrections


def _choices(
    workshop: Workshop,
    scores: Mapping[str, Score],
    costs: Mapping[str, Cost],
    loss_factor: float,
    latency_factor: float,
    fallback: bool = False,
) -> list[Choice]:
    """The best few within the budgets, or the best at several levels; DetrofitError where nothing meets a budget.

    With `fallback`, an empty list then: after the correction what was found before stays.
    """
    teacher = costs[KEEP]
    options = [
        Option(
            slot.address,
            candidate.key,
            loss_factor * scores[candidate.key].total,
            {
                "latency": latency_factor * (costs[candidate.key].latency - teacher.latency),
                "parameters": float(costs[candidate.key].parameters - teacher.parameters),
            },
        )
        for slot in workshop.slots
        for candidate in slot.candidates
    ]
    program = ChoiceProgram(workshop.slots, options)
    of_teacher = {"latency": teacher.latency, "parameters": float(teacher.parameters)}
    if not workshop.settings.budgets:
        least = min(0.0, program.cheapest("latency").costs["latency"])
        return [choice for level in LEVELS for choice in program.best({"latency": level * least * (1 - 1e-9)})]
    room = {kind: limit - of_teacher[kind] for kind, limit in limits(workshop.settings.budgets, of_teacher).items()}
    found = program.best(room, workshop.settings.assemblies)
    if not found and not fallback:
        raise DetrofitError(_nothing_meets(program, workshop, room, of_teacher))
    return found


def _nothing_meets(
    program: ChoiceProgram, workshop: Workshop, room: Mapping[str, float], teacher: Mapping[str, float]
) -> str:
    """What was asked for, and the nearest that there is."""
    asked = " and ".join(budget.text for budget in workshop.settings.budgets)
    nearest = []
    for kind in room:
        choice = program.cheapest(kind)
        amount = teacher[kind] + choice.costs.get(kind, 0.0)
        told = f"{amount:.2f} ms" if kind == "latency" else f"{amount / 1e6:.3f}Mparams"
        keys = "; ".join(choice.keys) or "the original"
        nearest.append(f"{told} ({amount / teacher[kind]:.3f}x) with {keys}")
    return f"nothing meets the budget {asked}: the nearest is {' or '.join(nearest)}; all measurements stay in " + str(
        workshop.folder
    )


def kendall_tau(predicted: Sequence[float], measured: Sequence[float], resamples: int = 2000) -> dict[str, float]:
    """Kendall's tau between two orders, with a 95 % interval from resampled pairs."""
    from scipy.stats import kendalltau

    x, y = np.array(predicted), np.array(measured)
    generator = np.random.default_rng(0)
    draws = [generator.integers(len(x), size=len(x)) for _ in range(resamples)]
    taus = [value for draw in draws if np.isfinite(value := kendalltau(x[draw], y[draw]).statistic)]
    low, high = np.quantile(taus, [0.025, 0.975]) if taus else (-1.0, 1.0)
    return {"tau": float(kendalltau(x, y).statistic), "low": float(low), "high": float(high), "number": len(x)}
