"""The training loop, from top to bottom."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from detrofit.config.schema import Experiment
from detrofit.data.loader import Batch
from detrofit.evaluation.evaluate import Evaluation
from detrofit.training.finite import FiniteGuard
from detrofit.training.interruption import Interruption
from detrofit.training.optimizer import set_learning_rate
from detrofit.training.plan import Plan
from detrofit.training.prepare import set_training_mode
from detrofit.training.reporter import Reporter
from detrofit.training.run_folder import read_config
from detrofit.training.setup import Training, set_up
from detrofit.training.state import Progress


@dataclass
class Pace:
    """What updates took in this process, waiting for pictures included, validation not: pictures and seconds."""

    pictures: int = 0
    seconds: float = 0.0

    @property
    def seconds_per_picture(self) -> float | None:
        """None where no update was left to make."""
        return self.seconds / self.pictures if self.pictures else None


@dataclass(frozen=True)
class RunResult:
    """A finished training: its folder, the best validation AP, and the pace of its updates."""

    folder: Path
    best: float
    pace: Pace = field(default_factory=Pace)


def resume(folder: Path) -> RunResult:
    """Go on with the run in a folder from its last saved state, as if it had never stopped."""
    return train(read_config(folder), resume_from=folder)


def train(experiment: Experiment, resume_from: Path | None = None) -> RunResult:
    """Train one model on one data set and leave everything in a run folder.

    Ctrl-C and SIGTERM end it after the update that is being made, with KeyboardInterrupt; the state is saved then. Of
    several processes all end together, whichever gets the signal, before the next update or validation.
    Raises DetrofitError for anything that a user can cause, before any work where that can be known.
    """
    with Interruption() as interruption, ExitStack() as held:
        training = set_up(experiment, resume_from, held)
        progress, pace = training.progress, Pace()
        interruption.by_agreement = training.devices.world_size > 1
        with Reporter(training.plan.total_steps, progress.step, training.devices.is_main) as reporter:
            for line in training.lines:
                reporter.say(line)
            try:
                for epoch in range(progress.epoch, training.plan.epochs):
                    _train_epoch(training, epoch, interruption, reporter, pace)
            except KeyboardInterrupt:
                # After bad steps, or half of one, the state that was saved before is the better one.
                if not training.stepper.guard.in_a_row and not interruption.broke_off:
                    training.keeper.save(progress)
                path = training.run.path
                reporter.say(f"stopped after {progress.step} steps; go on with: detrofit train --resume {path}")
                raise
    training.run.close()
    return RunResult(training.run.path, progress.best, pace)


def _train_epoch(training: Training, epoch: int, interruption: Interruption, reporter: Reporter, pace: Pace) -> None:
    """The updates of an epoch that are still to be made, then the validation."""
    settings, plan, progress = training.experiment.train, training.plan, training.progress
    guard, started = training.stepper.guard, time.perf_counter()
    strong = epoch < plan.strong_epochs
    set_training_mode(training.model, training.frozen_norms)
    batches = training.loader.batches(epoch, progress.step_in_epoch * settings.accumulate, strong)
    for group in _grouped(batches, settings.accumulate):
        _stop_together(training, interruption)
        with interruption.held_back():
            set_learning_rate(training.optimizer, plan.lr_factor(progress.step))
            losses = training.stepper.update(group, progress.step, several_sizes=strong)
            if losses is not None:
                training.average.update(progress.step)
            _advance(progress, losses, guard)
        pace.pictures += sum(len(targets) for _, targets in group)
        reporter.step(epoch, plan.epochs, progress.sums.get("loss", 0.0) / max(1, progress.steps_summed))
        if progress.step % settings.save_every == 0 and not guard.in_a_row:
            training.keeper.save(progress)
    pace.seconds += time.perf_counter() - started
    _stop_together(training, interruption)
    if (epoch + 1) % settings.val_every == 0 or epoch + 1 == plan.epochs:
        evaluation = training.keeper.validate(progress)
        reporter.say(_epoch_line(epoch, plan, progress, evaluation))
    with interruption.held_back():
        progress.epoch, progress.step_in_epoch = epoch + 1, 0
        progress.sums, progress.steps_summed = {}, 0
        training.keeper.save(progress)


def _stop_together(training: Training, interruption: Interruption) -> None:
    """KeyboardInterrupt in all of several processes where any of them was asked to stop."""
    if interruption.by_agreement and training.devices.any_of_all(interruption.asked):
        raise KeyboardInterrupt


def _grouped(batches: Iterator[Batch], count: int) -> Iterator[list[Batch]]:
    """The batches of each update."""
    while group := list(itertools.islice(batches, count)):
        yield group


def _advance(progress: Progress, losses: dict[str, float] | None, guard: FiniteGuard) -> None:
    progress.step += 1
    progress.step_in_epoch += 1
    progress.bad_in_a_row = guard.in_a_row
    if losses is not None:
        progress.steps_summed += 1
        for name, value in losses.items():
            progress.sums[name] = progress.sums.get(name, 0.0) + value


def _epoch_line(epoch: int, plan: Plan, progress: Progress, evaluation: Evaluation) -> str:
    loss = progress.sums.get("loss", float("nan")) / max(1, progress.steps_summed)
    summary = evaluation.summary
    return (
        f"epoch {epoch + 1}/{plan.epochs}  loss {loss:.3f}  val AP {summary['AP']:.4f}  AP50 {summary['AP50']:.4f}"
        f"  best {progress.best:.4f}"
    )
