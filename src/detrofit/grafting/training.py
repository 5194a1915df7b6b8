"""Local training of the whole library: every candidate imitates what its slot holds in the teacher."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from detrofit.comparison.runner import FILE_SECONDS, POLL_SECONDS
from detrofit.distillation.features import GIGABYTE, Capture, FeatureCache, Lesson, Lessons, cache_for, endless_batches
from detrofit.distillation.local import LocalSettings, LocalTraining, Trainee
from detrofit.distillation.swap import State
from detrofit.grafting.library import GraftSlot, trained_student
from detrofit.grafting.parallel import OpenExecutor, train_slots
from detrofit.grafting.workshop import Workshop, progress_bar
from detrofit.randomness import derive_seed
from detrofit.training.interruption import Interruption

States = dict[str, dict[str, State]]  # by candidate's key, then by module name


def train_library(workshop: Workshop, executor: OpenExecutor | None = None) -> tuple[States, dict[str, float]]:
    """The trained states of all candidates but those that diverged, and all imitation errors (NaN: it diverged).

    Where the teacher's features fit into the cache, the slots are trained one after the other from it, else all at
    once from one stream. Either way the teacher runs once. With an `executor` each slot is a job of its own, for which
    the teacher runs as far as that slot.
    """
    trainings = {slot.address: _training(workshop, slot) for slot in workshop.slots}
    if executor is not None and (waiting := _unfinished(trainings)):
        train_slots(workshop, waiting, executor)
        trainings |= _from_jobs(workshop, [slot for slot in workshop.slots if slot.address in waiting])
    folder = workshop.folder / "features"
    if _unfinished(trainings):
        lessons = _lessons(workshop, workshop.slots)
        limit = workshop.settings.cache * GIGABYTE
        lessons.cache = cache_for(lessons, workshop.settings.steps, folder, limit)
        if lessons.cache is None:
            _train_together(workshop, list(trainings.items()), lessons)
        else:
            _train_in_turn(workshop, trainings, lessons)
    FeatureCache(folder).remove()
    return _results(trainings.values())


def _from_jobs(workshop: Workshop, slots: Sequence[GraftSlot]) -> dict[str, LocalTraining]:
    """The trainings that jobs have finished; a shared folder may show what another machine wrote a little later."""
    deadline = time.monotonic() + FILE_SECONDS
    trainings = {slot.address: _training(workshop, slot) for slot in slots}
    while (late := _unfinished(trainings)) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        trainings |= {slot.address: _training(workshop, slot) for slot in slots if slot.address in late}
    return trainings


def train_slot(workshop: Workshop, slot: GraftSlot) -> None:
    """Train the candidates of one slot by themselves, from where they stand to the end."""
    training, lessons = _training(workshop, slot), _lessons(workshop, [slot])
    with Interruption() as interruption:
        training.run(lessons.from_number, state_file(workshop.folder, slot.address), held_back=interruption.held_back)


def _unfinished(trainings: Mapping[str, LocalTraining]) -> list[str]:
    return [address for address, training in trainings.items() if training.step < training.settings.steps]


def _lessons(workshop: Workshop, slots: Iterable[GraftSlot]) -> Lessons:
    """What the teacher's modules in these slots do with the training pictures; the same however many slots."""
    return Lessons(
        Capture(workshop.teacher, list(dict.fromkeys(slot.unit for slot in slots))),
        endless_batches(workshop.loader, workshop.prepare),
        inside=workshop.settings.inside,
        autocast=workshop.devices.autocast,
    )


def _training(workshop: Workshop, slot: GraftSlot) -> LocalTraining:
    """The training of a slot's candidates, where it stands."""
    settings = workshop.settings
    trainees = []
    for candidate in slot.candidates:
        # All candidates of a slot draw from the same seed; module names tell their numbers apart.
        student = trained_student(workshop.teacher, [candidate], {}, seed=derive_seed(settings.seed, "graft"))
        module = student.get_submodule(slot.unit).requires_grad_(True).to(workshop.devices.device)
        trainees.append(Trainee(candidate.key, slot.unit, module))
    training = LocalTraining(
        trainees,
        LocalSettings(steps=settings.steps, lr=settings.lr),
        seed=settings.seed,
        autocast=workshop.devices.autocast_without_scaler,
    )
    training.restore(state_file(workshop.folder, slot.address))
    return training


def _train_in_turn(workshop: Workshop, trainings: dict[str, LocalTraining], lessons: Lessons) -> None:
    total = sum(training.settings.steps for training in trainings.values())
    done = sum(training.step for training in trainings.values())
    title = f"local training of {_count(workshop.slots)} candidates"
    with Interruption() as interruption, progress_bar(title, total, done) as advance:
        for address, training in trainings.items():
            file = state_file(workshop.folder, address)
            training.run(lessons.from_number, file, advance, interruption.held_back)


def _train_together(workshop: Workshop, trainings: Sequence[tuple[str, LocalTraining]], lessons: Lessons) -> None:
    """All slots from one stream; where they stand apart after a stop, the later ones wait."""
    steps = workshop.settings.steps
    start = min(training.step for _, training in trainings)
    title = f"local training of {_count(workshop.slots)} candidates"
    with Interruption() as interruption, progress_bar(title, steps, start) as advance:
        try:
            for lesson in itertools.islice(lessons.from_number(start), steps - start):
                _learn_together(workshop, trainings, lesson, interruption)
                advance()
        except KeyboardInterrupt:
            for address, training in trainings:
                training.save_whole(state_file(workshop.folder, address))
            raise


def _learn_together(
    workshop: Workshop, trainings: Sequence[tuple[str, LocalTraining]], lesson: Lesson, interruption: Interruption
) -> None:
    """One step of those slots that have made fewest."""
    number = min(training.step for _, training in trainings)
    for address, training in trainings:
        if training.step == number:
            with interruption.held_back():
                training.learn(lesson)
            training.save_if_due(state_file(workshop.folder, address))


def _results(trainings: Iterable[LocalTraining]) -> tuple[States, dict[str, float]]:
    trainees = [trainee for training in trainings for trainee in training.trainees]
    states: States = {each.key: {each.place: each.module.eval().state_dict()} for each in trainees if not each.diverged}
    return states, {each.key: each.error for each in trainees}


def state_file(folder: Path, address: str) -> Path:
    """Where the training of a slot's candidates stands."""
    return folder / "library" / f"{address}.pt"


def _count(slots: Sequence[GraftSlot]) -> int:
    return sum(len(slot.candidates) for slot in slots)
