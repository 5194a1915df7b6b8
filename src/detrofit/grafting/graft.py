"""Grafting from top to bottom: lighter parts into a trained model, chosen by what they cost and lose on one's data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detrofit.files import alone
from detrofit.grafting.additivity import SumError, sum_error
from detrofit.grafting.assemble import Assembled, assemble_choices, choices_before
from detrofit.grafting.budget import BudgetError, limits
from detrofit.grafting.choice import Choice, ChoiceProgram, Option
from detrofit.grafting.cost import Cost, cost_library
from detrofit.grafting.expectation import expected_costs
from detrofit.grafting.finish import finish
from detrofit.grafting.knobs import free_knobs
from detrofit.grafting.library import KEEP
from detrofit.grafting.parallel import OpenExecutor
from detrofit.grafting.results import kept_of, make_results, winner_of, write_results
from detrofit.grafting.score import Score, Scorer, check_library, control, score_library
from detrofit.grafting.training import States, train_library
from detrofit.grafting.verdict import knob_text, knob_within
from detrofit.grafting.workshop import GraftSettings, Workshop, check_runtime, open_workshop
from detrofit.training.interruption import Interruption

LEVELS = (0.25, 0.5, 0.75, 1.0)  # of the way from the teacher's latency to the least, where no budget is given
DEFAULTS = GraftSettings()


@dataclass(frozen=True)
class GraftResult:
    """A finished graft: its folder, the content of its results.json, and the model file that it recommends."""

    folder: Path
    results: dict[str, Any]
    best: Path


def graft(
    file: str | Path,
    data: str | Path,
    out: str | Path,
    settings: GraftSettings = DEFAULTS,
    *,
    executor: OpenExecutor | None = None,
    check: Callable[[Path], object] = lambda chosen: None,
) -> GraftResult:
    """Replace parts of a trained model by lighter ones that do nearly the same; `out` keeps everything.

    Called again with the same `out` it goes on where it was stopped, and other budgets reuse all that is there.
    `executor` opens where the candidates are trained, a job a slot; by default here, in this process. `check` is
    given the model file that was chosen, before any fine-tuning, unless the original is best; what it raises ends the
    graft there. Raises DetrofitError for anything that a user can cause; nothing that was done is lost.
    """
    check_runtime(settings)
    workshop = open_workshop(Path(file), Path(data), Path(out), settings)
    with alone(workshop.folder, "graft"), Interruption():  # so that SIGTERM, too, leaves the hours written
        return _graft(workshop, executor, check)


def _graft(workshop: Workshop, executor: OpenExecutor | None, check: Callable[[Path], object]) -> GraftResult:
    settings = workshop.settings
    with workshop.clock("scoring"):
        scorer = Scorer(workshop)
        scorer.check()
        random_numbers = control(workshop, scorer)
    knobs: list[dict[str, Any]] = []
    if settings.knobs and settings.bench is not None:
        workshop.note(
            "the free knobs are not compared: they have not been timed on the device; `detrofit trade --bench` does "
            "that"
        )
    elif settings.knobs:
        with workshop.clock("free knobs"):
            knobs = free_knobs(workshop)
    with workshop.clock("local training"):
        states, errors = train_library(workshop, executor)
    with workshop.clock("scoring"):
        scores = score_library(workshop, scorer, states)
        check_library(workshop, scores, random_numbers)
    with workshop.clock("timing"):
        library = cost_library(workshop, states)
        costs = expected_costs(library, workshop.slots)
    with workshop.clock("assembling"):
        try:
            assembled, sums = _choose(workshop, scorer, states, scores, costs, random_numbers)
        except BudgetError as error:
            raise BudgetError(f"{error}{_without_graft(workshop, knobs, costs[KEEP])}") from None
    if (winner := winner_of(workshop, assembled, costs[KEEP], random_numbers)) is not None:
        check(winner.file)
    finished: dict[str, dict[str, Any]] = {}
    if settings.finish_epochs:
        with workshop.clock("finish"):
            kept = kept_of(assembled, winner)
            files = {KEEP: workshop.file, **{each.name: each.file for each in kept}}
            finished = finish(workshop, scorer, files, settings.finish_epochs)
    results = make_results(workshop, scorer, random_numbers, errors, scores, library, assembled, sums, finished, knobs)
    best = write_results(workshop, results)
    return GraftResult(workshop.folder, results, best)


def _choose(
    workshop: Workshop, scorer: Scorer, states: States, scores: Mapping[str, Score], costs: Mapping[str, Cost],
    control: Score,
) -> tuple[list[Assembled], dict[str, SumError]]:  # fmt: skip
    """Choose, assemble and measure; correct the sums once by what was measured, and do it again.

    Gives all that was assembled, for earlier budgets too, and how far the sums of the first choices were off.
    """
    options, before = _options(workshop, scores, costs), choices_before(workshop)
    try:
        first = _choices(workshop, options, costs[KEEP])
    except BudgetError:  # by sums: what was assembled for another budget may meet it all the same
        earlier = assemble_choices(workshop, scorer, before, states, costs, scores)
        if winner_of(workshop, earlier, costs[KEEP], control) is None:
            raise
        return earlier, {"loss": sum_error([]), "latency": sum_error([])}
    assembled = assemble_choices(workshop, scorer, first, states, costs, scores)
    teacher = costs[KEEP].latency
    losses = [(each.keys, each.predicted_loss, each.score.total) for each in assembled if each.sound]
    savings = [
        (each.keys, each.predicted_latency - teacher, teacher * (each.cost.ratio - 1))
        for each in assembled
        if each.timed
    ]
    sums = {"loss": sum_error(losses), "latency": sum_error(savings)}
    try:
        again = _choices(workshop, [_corrected(option, sums) for option in options], costs[KEEP])
    except BudgetError:
        again = []  # after the correction: what was found before stays
    together = {choice.keys: choice for choice in (*before, *first, *again)}
    return assemble_choices(workshop, scorer, list(together.values()), states, costs, scores), sums


def _options(workshop: Workshop, scores: Mapping[str, Score], costs: Mapping[str, Cost]) -> list[Option]:
    teacher = costs[KEEP]
    return [
        Option(
            slot.address,
            candidate.key,
            scores[candidate.key].total,
            {
                "latency": costs[candidate.key].latency - teacher.latency,
                "parameters": float(costs[candidate.key].parameters - teacher.parameters),
            },
        )
        for slot in workshop.slots
        for candidate in slot.candidates
    ]


def _corrected(option: Option, sums: Mapping[str, SumError]) -> Option:
    latency = sums["latency"].corrected(option.key, option.costs["latency"])
    loss = sums["loss"].corrected(option.key, option.loss)
    return replace(option, loss=loss, costs={**option.costs, "latency": latency})


def _choices(workshop: Workshop, options: Sequence[Option], teacher: Cost) -> list[Choice]:
    """The best few within the budgets, or the best at several levels; BudgetError where nothing meets a budget."""
    program = ChoiceProgram(workshop.slots, options)
    if not workshop.settings.budgets:
        least = min(0.0, program.cheapest("latency").costs["latency"])
        return [choice for level in LEVELS for choice in program.best({"latency": level * least * (1 - 1e-9)})]
    of_teacher = {"latency": teacher.latency, "parameters": float(teacher.parameters)}
    room = {kind: limit - of_teacher[kind] for kind, limit in limits(workshop.settings.budgets, of_teacher).items()}
    found = program.best(room, workshop.settings.assemblies)
    if not found:
        raise BudgetError(_nothing_meets(program, workshop, room, of_teacher))
    return found


def _nothing_meets(
    program: ChoiceProgram, workshop: Workshop, room: Mapping[str, float], teacher: Mapping[str, float]
) -> str:
    """What was asked for, and the nearest that there is: a budget is given up while the others hold or, where no
    others can, all are, for the fastest or smallest that there is."""
    asked = " and ".join(budget.text for budget in workshop.settings.budgets)
    alone = {kind: program.cheapest(kind, {other: room[other] for other in room if other != kind}) for kind in room}
    held = {
        kind: choice
        for kind, choice in alone.items()
        if all(choice.costs.get(other, 0.0) <= room[other] for other in room if other != kind)
    }
    if held:
        nearest = [_named(choice, [kind], teacher) for kind, choice in held.items()]
    else:
        nearest = [_named(next(iter(alone.values())), room, teacher)]
    return f"nothing meets the budget {asked}: the nearest is {' or '.join(nearest)}; all measurements stay in " + str(
        workshop.folder
    )


def _named(choice: Choice, kinds: Iterable[str], teacher: Mapping[str, float]) -> str:
    """The budgets that a choice meets, and what it is."""
    amounts = [_askable(kind, teacher[kind] + choice.costs.get(kind, 0.0), teacher[kind]) for kind in kinds]
    return f"{' and '.join(amounts)} with {'; '.join(choice.keys) or 'the original'}"


def _without_graft(workshop: Workshop, knobs: Sequence[Mapping[str, Any]], teacher: Cost) -> str:
    """The free knobs that meet the budgets, as a sentence; empty if none do."""
    of_teacher = {"latency": teacher.latency, "parameters": float(teacher.parameters)}
    most = knob_within(knobs, limits(workshop.settings.budgets, of_teacher), teacher.latency)
    return "" if most is None else f". Without any graft, {knob_text(most)}"


def _askable(kind: str, amount: float, teacher: float) -> str:
    """An amount and its share of the teacher's as budgets are written, rounded up, so that they can be asked for."""
    if kind == "latency":
        return f"{_rounded_up(amount):.3f}ms ({_rounded_up(amount / teacher):.3f}x)"
    return f"{_rounded_up(amount / 1e6):.3f}Mparams ({_rounded_up(amount / teacher):.3f}xparams)"


def _rounded_up(amount: float) -> float:
    return math.ceil(1000 * amount) / 1000
