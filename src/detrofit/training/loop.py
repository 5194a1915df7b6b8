"""The training loop, from top to bottom."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detrofit.config.schema import AugmentSettings, Experiment
from detrofit.data.index import DetectionIndex
from detrofit.data.loader import Batch, TrainingLoader
from detrofit.data.transforms import Augmentation, multiscale_sizes
from detrofit.errors import DetrofitError
from detrofit.evaluation.evaluate import Evaluation
from detrofit.training.devices import Devices
from detrofit.training.ema import ModelAverage
from detrofit.training.finite import FiniteGuard
from detrofit.training.interruption import Interruption
from detrofit.training.keeper import Keeper
from detrofit.training.optimizer import freeze, freeze_norms, make_optimizer, set_learning_rate
from detrofit.training.plan import Plan, make_plan
from detrofit.training.prepare import check_model, make_model, open_material, open_teacher, set_training_mode
from detrofit.training.reporter import Reporter
from detrofit.training.run_folder import RunFolder, new_run_path, read_config
from detrofit.training.state import Progress, load_state, restore
from detrofit.training.step import Stepper
from detrofit.training.warm_start import plan_warm_start, warm_start_interrupted
from detrofit.training.workers import default_workers


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

    Ctrl-C and SIGTERM end it after the update that is being made, with KeyboardInterrupt; the state is saved then.
    Raises DetrofitError for anything that a user can cause, before any work where that can be known.
    """
    with Interruption() as interruption:
        return _train(experiment, resume_from, interruption)


def _train(experiment: Experiment, resume_from: Path | None, interruption: Interruption) -> RunResult:
    settings = experiment.train
    devices = Devices(experiment.device, settings.precision, settings.channels_last)
    check_model(experiment)
    material = open_material(experiment)
    progress, saved = _saved(resume_from)
    teacher = open_teacher(experiment, material.train.class_names, progress, devices)
    model, line, taken = make_model(
        experiment, material.train.class_names, progress, resumed=saved is not None, from_main=devices.from_main
    )
    warm_start = None
    if settings.warm_start == "distill" and saved is None:
        warm_start = plan_warm_start(experiment, model, material.train.class_names, taken)
        line += f"\n{warm_start.line}"
    freeze(model, settings.freeze)
    frozen_norms = freeze_norms(model, [*settings.frozen_norms, *settings.freeze])
    model = devices.place(model)

    loader = _loader(experiment, material.train, devices)
    plan = make_plan(experiment, -(-loader.steps_per_epoch // settings.accumulate), pretrained=progress.pretrained)
    if progress.steps_per_epoch not in (0, plan.steps_per_epoch):
        raise DetrofitError(f"{experiment.data} has another number of pictures than when {resume_from} began")
    progress.steps_per_epoch = plan.steps_per_epoch
    optimizer = make_optimizer(model, settings, plan)
    if resume_from is None or saved is None:
        run = RunFolder(devices.from_main(lambda: resume_from or new_run_path(experiment)), devices.is_main)
        run.write_config(experiment)
        if warm_start is not None and taken is not None:
            taken["warm_start"] = warm_start.run(model, frozen_norms, devices, loader, run.path)
        run.write_transfer(taken)
    average = ModelAverage(model, plan.ema_decay, plan.ema_ramp)
    if resume_from is not None and saved is not None:
        restore(resume_from, saved, {"model": model, "optimizer": optimizer, "average": average.model})
        if devices.accelerator.scaler is not None:
            restore(resume_from, saved, {"scaler": devices.accelerator.scaler})
        run = RunFolder.reopen(resume_from, progress.epoch, devices.is_main)

    network, optimizer = devices.accelerator.prepare(model, optimizer)
    guard = FiniteGuard(model, run.path, progress.bad_in_a_row)
    sizes = multiscale_sizes(experiment.imgsz, experiment.augment.multiscale) if experiment.augment.multiscale else []
    stepper = Stepper(
        model,
        network,
        optimizer,
        devices,
        guard,
        experiment.seed,
        settings.clip,
        sizes,
        teacher,
        settings.teacher_weight,
    )
    keeper = Keeper(experiment, run, model, average.model, optimizer, devices, material)
    if warm_start is not None:
        keeper.save(progress)
    pace = Pace()

    with Reporter(plan.total_steps, progress.step, devices.is_main) as reporter:
        reporter.say(f"{material.dataset.description}")
        reporter.say(f"{line}")
        if teacher is not None:
            reporter.say(f"learning from {settings.teacher} too, weight {settings.teacher_weight:g}")
        reporter.say(
            f"run folder {run.path}, {plan.epochs} epochs of {plan.steps_per_epoch} steps, {devices.precision}"
        )
        try:
            for epoch in range(progress.epoch, plan.epochs):
                strong, started = epoch < plan.strong_epochs, time.perf_counter()
                set_training_mode(model, frozen_norms)
                batches = loader.batches(epoch, progress.step_in_epoch * settings.accumulate, strong)
                for group in _grouped(batches, settings.accumulate):
                    with interruption.held_back():
                        set_learning_rate(optimizer, plan.lr_factor(progress.step))
                        losses = stepper.update(group, progress.step, several_sizes=strong and bool(sizes))
                        if losses is not None:
                            average.update(model, progress.step)
                        _advance(progress, losses, guard)
                    pace.pictures += sum(len(targets) for _, targets in group)
                    reporter.step(epoch, plan.epochs, progress.sums.get("loss", 0.0) / max(1, progress.steps_summed))
                    if progress.step % settings.save_every == 0 and not guard.in_a_row:
                        keeper.save(progress)
                pace.seconds += time.perf_counter() - started
                if (epoch + 1) % settings.val_every == 0 or epoch + 1 == plan.epochs:
                    evaluation = keeper.validate(progress)
                    reporter.say(_epoch_line(epoch, plan, progress, evaluation))
                with interruption.held_back():
                    progress.epoch, progress.step_in_epoch = epoch + 1, 0
                    progress.sums, progress.steps_summed = {}, 0
                    keeper.save(progress)
        except KeyboardInterrupt:
            if not guard.in_a_row:  # or the last state before the bad steps is the better one
                keeper.save(progress)
            reporter.say(f"stopped after {progress.step} steps; go on with: detrofit train --resume {run.path}")
            raise
    run.close()
    return RunResult(run.path, progress.best, pace)


def _saved(resume_from: Path | None) -> tuple[Progress, dict[str, Any] | None]:
    """Where a resumed training stands; nothing for a new one, and for one that was stopped in its warm start."""
    if resume_from is None or warm_start_interrupted(resume_from):
        return Progress(), None
    return load_state(resume_from)


def _loader(experiment: Experiment, index: DetectionIndex, devices: Devices) -> TrainingLoader:
    return TrainingLoader(
        index,
        experiment.imgsz,
        experiment.train.batch,
        seed=experiment.seed,
        augmentation=_augmentation(experiment.augment),
        workers=default_workers(experiment.workers),
        num_replicas=devices.world_size,
        rank=devices.rank,
        rare_class_threshold=experiment.augment.rare_class_threshold,
    )


def _augmentation(settings: AugmentSettings) -> Augmentation:
    names = ("photometric", "zoom_out", "iou_crop", "horizontal_flip", "vertical_flip", "mosaic", "mixup")
    return Augmentation(**{name: getattr(settings, name) for name in names})


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
