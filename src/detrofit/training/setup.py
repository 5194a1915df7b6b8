"""All that a training needs, made anew or as it was when it stopped."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from detrofit.config.schema import AugmentSettings, Experiment
from detrofit.data.index import DetectionIndex
from detrofit.data.loader import TrainingLoader
from detrofit.data.transforms import Augmentation, multiscale_sizes
from detrofit.distillation.teacher import Teacher
from detrofit.errors import DetrofitError
from detrofit.files import alone
from detrofit.model.detector import RTDETR
from detrofit.training.devices import Devices
from detrofit.training.ema import ModelAverage
from detrofit.training.finite import FiniteGuard
from detrofit.training.keeper import Keeper
from detrofit.training.optimizer import freeze, freeze_norms, make_optimizer
from detrofit.training.plan import Plan, make_plan
from detrofit.training.prepare import Material, check_model, make_model, open_material, open_teacher
from detrofit.training.run_folder import RunFolder, new_run_path
from detrofit.training.state import Progress, load_state, never_saved, restore
from detrofit.training.step import Stepper
from detrofit.training.warm_start import WarmStart, plan_warm_start
from detrofit.training.workers import default_workers

# Seconds to wait for another training in the folder to end: the processes that load pictures outlive a killed one by up
# to five, and hold its folder as long.
PATIENCE = 8.0


@dataclass(frozen=True)
class Training:
    """A training that can begin or go on.

    `lines` are what people are told first.
    """

    experiment: Experiment
    devices: Devices
    loader: TrainingLoader
    plan: Plan
    model: RTDETR
    frozen_norms: list[nn.Module]
    average: ModelAverage
    optimizer: torch.optim.Optimizer
    stepper: Stepper
    keeper: Keeper
    run: RunFolder
    progress: Progress
    lines: list[str]


def set_up(experiment: Experiment, resume_from: Path | None, held: ExitStack) -> Training:
    """Everything for a training, checked before any work; raises DetrofitError for what a user can cause.

    Until `held` is closed, no other command can train in the run folder.
    """
    settings = experiment.train
    devices = Devices(experiment.device, settings.precision, settings.channels_last)
    if resume_from is not None:
        _claim(resume_from, devices, held)
    check_model(experiment)
    material = open_material(experiment)
    class_names = material.train.class_names
    progress, saved = _saved(resume_from)
    _recognise(material.train, experiment, progress, resume_from)
    teacher = open_teacher(experiment, class_names, progress, devices)
    model, line, taken = make_model(
        experiment, class_names, progress, resumed=saved is not None, from_main=devices.from_main
    )
    warm_start = None
    if settings.warm_start == "distill" and saved is None:
        warm_start = plan_warm_start(experiment, model, class_names, taken)
    model = devices.place(model)
    # After placing, which puts others in the place of norms where several processes synchronise them.
    freeze(model, settings.freeze)
    frozen_norms = freeze_norms(model, [*settings.frozen_norms, *settings.freeze])

    sizes = _sizes(experiment, model)
    loader = _loader(experiment, material.train, devices)
    plan = _plan(experiment, loader, progress, resume_from)
    optimizer = make_optimizer(model, settings, plan)
    if saved is None:
        run = _begin(experiment, resume_from, devices, held)
        if warm_start is not None and taken is not None:
            taken["warm_start"] = warm_start.run(model, frozen_norms, devices, loader, run.path)
        run.write_transfer(taken)
    average = ModelAverage(model, plan.ema_decay, plan.ema_ramp)
    if resume_from is not None and saved is not None:
        run = _go_on(resume_from, saved, progress, devices, model=model, optimizer=optimizer, average=average.model)

    stepper = _stepper(experiment, model, optimizer, devices, run, progress, sizes, teacher)
    keeper = Keeper(experiment, run, model, average.model, stepper.optimizer, devices, material)
    if warm_start is not None:
        keeper.save(progress)
        warm_start.clear(run.path, devices.is_main)
    lines = _lines(experiment, material, line, warm_start, plan, run, devices)
    return Training(
        experiment, devices, loader, plan, model, frozen_norms, average, stepper.optimizer, stepper, keeper, run,
        progress, lines,
    )  # fmt: skip


def _claim(folder: Path, devices: Devices, held: ExitStack) -> None:
    """DetrofitError while another command trains in this folder; else none can until `held` is closed."""
    if devices.is_main:
        held.enter_context(alone(folder, "training", PATIENCE))


def _begin(experiment: Experiment, resume_from: Path | None, devices: Devices, held: ExitStack) -> RunFolder:
    """The folder of a run that makes its first update next, with its configuration."""
    if resume_from is not None:
        run = RunFolder.reopen(resume_from, 0, devices.is_main)
    else:
        run = RunFolder(devices.from_main(lambda: new_run_path(experiment)), devices.is_main)
        _claim(run.path, devices, held)
    run.write_config(experiment)
    return run


def _go_on(folder: Path, saved: dict[str, Any], progress: Progress, devices: Devices, **stateful: Any) -> RunFolder:
    """Give everything that has a state the saved one; the run's folder, opened again."""
    scaler = devices.accelerator.scaler
    if scaler is not None and "scaler" in saved:  # or it begins anew: the state is of a device that needed none
        stateful["scaler"] = scaler
    restore(folder, saved, stateful)
    return RunFolder.reopen(folder, progress.epoch, devices.is_main)


def _stepper(
    experiment: Experiment,
    model: RTDETR,
    optimizer: torch.optim.Optimizer,
    devices: Devices,
    run: RunFolder,
    progress: Progress,
    sizes: list[tuple[int, int]],
    teacher: Teacher | None,
) -> Stepper:
    """What makes an update, with model and optimizer as accelerate wraps them."""
    network, optimizer = devices.accelerator.prepare(model, optimizer)
    guard = FiniteGuard(model, run.path, progress.bad_in_a_row)
    settings = experiment.train
    return Stepper(
        model, network, optimizer, devices, guard, experiment.seed, settings.clip, sizes, teacher,
        settings.teacher_weight,
    )  # fmt: skip


def _saved(resume_from: Path | None) -> tuple[Progress, dict[str, Any] | None]:
    """Where a resumed training stands; nothing for a new one, and for one that was stopped before its first state."""
    if resume_from is None or never_saved(resume_from):
        return Progress(), None
    return load_state(resume_from)


def _recognise(index: DetectionIndex, experiment: Experiment, progress: Progress, resume_from: Path | None) -> None:
    """DetrofitError unless these are the pictures and boxes that a resumed training began with."""
    digest = index.hashed().hexdigest()
    if progress.data not in ("", digest):
        raise DetrofitError(
            f"pictures or boxes of the split '{index.split}' of {experiment.data} have changed since {resume_from} "
            "began; put the first ones back, or begin another run from its weights: --weights"
        )
    progress.data = digest


def _plan(experiment: Experiment, loader: TrainingLoader, progress: Progress, resume_from: Path | None) -> Plan:
    updates = -(-loader.steps_per_epoch // experiment.train.accumulate)
    plan = make_plan(experiment, updates, pretrained=progress.pretrained)
    if progress.steps_per_epoch not in (0, plan.steps_per_epoch):
        raise DetrofitError(f"{experiment.data} has another number of pictures than when {resume_from} began")
    progress.steps_per_epoch = plan.steps_per_epoch
    return plan


def _lines(
    experiment: Experiment,
    material: Material,
    start: str,
    warm_start: WarmStart | None,
    plan: Plan,
    run: RunFolder,
    devices: Devices,
) -> list[str]:
    settings = experiment.train
    lines = [material.description, start]
    if warm_start is not None:
        lines.append(warm_start.line)
    if settings.teacher is not None:
        lines.append(f"learning from {settings.teacher} too, weight {settings.teacher_weight:g}")
    epochs = f"{plan.epochs} epochs of {plan.steps_per_epoch} steps"
    return [*lines, f"run folder {run.path}, {epochs}, {devices.precision}"]


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


def _sizes(experiment: Experiment, model: RTDETR) -> list[tuple[int, int]]:
    """The input sizes of multi-scale training; DetrofitError where norms of the coarsest level would see one value."""
    spread = experiment.augment.multiscale
    sizes = multiscale_sizes(experiment.imgsz, spread) if spread else []
    height, width = min(sizes or [experiment.imgsz], key=max)
    if experiment.train.batch == 1 and max(height, width) <= max(model.frame.strides):
        raise DetrofitError(
            f"at {height} x {width} pixels a batch of one picture has one value a channel on the coarsest level, "
            "of which batch norms cannot tell the spread; give a larger --batch or --imgsz"
        )
    return sizes


def _augmentation(settings: AugmentSettings) -> Augmentation:
    names = ("photometric", "zoom_out", "iou_crop", "horizontal_flip", "vertical_flip", "mosaic", "mixup")
    return Augmentation(**{name: getattr(settings, name) for name in names})
