"""Putting chosen candidates together: a second local training on their own inputs, norms, score, cost."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from detrofit.distillation.features import Lessons, OwnInputs, endless_batches
from detrofit.distillation.local import LocalSettings, LocalTraining, Trainee
from detrofit.grafting.choice import Choice
from detrofit.grafting.cost import Cost, cost_models
from detrofit.grafting.library import KEEP, Candidate
from detrofit.grafting.score import Score, Scorer, measure_norms, settled
from detrofit.grafting.training import States
from detrofit.grafting.workshop import Workshop, progress_bar
from detrofit.model.detector import RTDETR
from detrofit.training.interruption import Interruption
from detrofit.weights.model_file import save_model

SECOND_LR = 0.5  # of the first pass's rate: the parts are nearly right


@dataclass(frozen=True)
class Assembled:
    """A grafted model: what was predicted of it and what was measured.

    `predicted_loss` and `predicted_latency` (ms) are sums over single swaps, before any correction. Without `timed` the
    latency of its cost is that sum too.
    """

    name: str
    keys: tuple[str, ...]
    predicted_loss: float
    predicted_latency: float
    score: Score
    cost: Cost
    timed: bool
    file: Path

    @property
    def sound(self) -> bool:
        """Whether it answers in numbers."""
        return math.isfinite(self.score.total)


def assemble_choices(
    workshop: Workshop, scorer: Scorer, choices: Sequence[Choice], states: States, costs: Mapping[str, Cost],
    scores: Mapping[str, Score],
) -> list[Assembled]:  # fmt: skip
    """Every choice as a model, trained together, scored, and timed in turns with the others and the teacher."""
    unique = {name_of(choice.keys): choice for choice in choices if choice.keys}
    with progress_bar("assembling", len(unique)) as advance:
        for name, choice in unique.items():
            make_model(workshop, scorer, name, choice.keys, states)
            advance()
    files = {name: model_file(workshop, name) for name in unique}
    measured, timed = cost_models(workshop, files, costs, {name: choice.keys for name, choice in unique.items()})
    teacher = costs[KEEP].latency
    return [
        Assembled(
            name,
            choice.keys,
            sum(scores[key].total for key in choice.keys),
            teacher + sum(costs[key].latency - teacher for key in choice.keys),
            Score(**workshop.record(f"assemblies/{name}.json")["score"]),
            measured[name],
            name in timed,
            files[name],
        )
        for name, choice in unique.items()
    ]


def choices_before(workshop: Workshop) -> list[Choice]:
    """What has been assembled in this folder, under whatever budget; its sums are left to `assemble_choices`."""
    known = {candidate.key for slot in workshop.slots for candidate in slot.candidates}
    records = (workshop.record(f"assemblies/{file.stem}.json") for file in _models(workshop))
    keys = (tuple(record.get("keys", ())) for record in records)
    return [Choice(each, math.nan, {}) for each in keys if each and known.issuperset(each)]


def _models(workshop: Workshop) -> list[Path]:
    return sorted((workshop.folder / "assemblies").glob("graft-*.safetensors"))


def name_of(keys: Sequence[str]) -> str:
    """A short name of a set of candidates, the same whatever the budget that chose it."""
    return "graft-" + hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()[:8]


def model_file(workshop: Workshop, name: str) -> Path:
    """Where the assembled model of that name is."""
    return workshop.folder / "assemblies" / f"{name}.safetensors"


def make_model(workshop: Workshop, scorer: Scorer, name: str, keys: Sequence[str], states: States) -> Score:
    """Make, score and keep a model, unless it is there; parts that diverge beside the others stay as they came."""
    record = workshop.record(f"assemblies/{name}.json")
    if not record:
        chosen = find_candidates(workshop, keys)
        student = settled(workshop, chosen, states)
        diverged = _train_on_own_inputs(workshop, student, name, chosen)
        if diverged:
            student = settled(workshop, chosen, states)
        else:
            measure_norms(workshop, student, chosen)
        score = scorer.score(student)
        save_grafted(workshop, model_file(workshop, name), student, keys, score)
        record = {"keys": list(keys), "score": asdict(score), "diverged": diverged}
        workshop.keep(f"assemblies/{name}.json", record)
        _second_state(workshop, name).unlink(missing_ok=True)  # not before: it is what a stopped one goes on from
    if record["diverged"]:
        workshop.note(
            f"{', '.join(record['diverged'])} diverged beside the other grafts of {name}, whose parts are therefore as "
            "they learnt alone"
        )
    return Score(**record["score"])


def _second_state(workshop: Workshop, name: str) -> Path:
    """Where the second training of an assembled model stands."""
    return workshop.folder / "assemblies" / f"{name}.pt"


def find_candidates(workshop: Workshop, keys: Sequence[str]) -> list[Candidate]:
    """The candidates with these keys."""
    return [candidate for slot in workshop.slots for candidate in slot.candidates if candidate.key in keys]


def save_grafted(workshop: Workshop, file: Path, model: RTDETR, keys: Sequence[str], score: Score) -> None:
    """Write a grafted model's file, which says what it was made of and what it reaches on the search split."""
    info, measured = workshop.info, {"val_AP": score.ap, "val_AP50": score.ap50}
    trained = {name: value for name, value in info.trained.items() if name not in measured}
    trained |= {"grafted_from": workshop.file.name, "grafts": ", ".join(keys)}
    trained |= {name: value for name, value in measured.items() if math.isfinite(value)}
    threshold = score.threshold if math.isfinite(score.threshold) else info.threshold
    save_model(file, model, replace(info, threshold=threshold, trained=trained))


def _train_on_own_inputs(workshop: Workshop, student: RTDETR, name: str, chosen: Sequence[Candidate]) -> list[str]:
    """Every grafted part learns again what the teacher's gave, from what it receives beside the other grafts.

    Gives the modules that diverged.
    """
    settings = workshop.settings
    addresses = {candidate.slot for candidate in chosen}
    units = [slot.unit for slot in workshop.slots if slot.address in addresses]
    trainees = [Trainee(unit, unit, student.get_submodule(unit).requires_grad_(True)) for unit in units]
    if not settings.second_steps:
        return []
    local = LocalSettings(steps=settings.second_steps, lr=SECOND_LR * settings.lr)
    training = LocalTraining(trainees, local, seed=settings.seed, autocast=workshop.devices.autocast_without_scaler)
    file = _second_state(workshop, name)
    training.restore(file)
    lessons = Lessons(
        OwnInputs(workshop.teacher, student, units),
        endless_batches(workshop.loader, workshop.prepare),
        inside=settings.inside,
        autocast=workshop.devices.autocast,
    )
    with Interruption() as interruption:
        training.run(lambda step: lessons.from_number(settings.steps + step), file, held_back=interruption.held_back)
    student.eval().requires_grad_(False)
    return [trainee.key for trainee in trainees if trainee.diverged]
