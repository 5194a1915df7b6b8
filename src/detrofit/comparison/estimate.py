"""How long a job will take, from two measured updates of its own training and a measured batch of validation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from detrofit.comparison.jobs import Job
from detrofit.config.schema import Experiment

MEASURED_STEPS = 2


def estimated_seconds(job: Job, at_once: int = 1) -> float:
    """Seconds of a training with its validations and its scoring on the test split, while so many run at once.

    The faster of two updates stands for all: the first one warms up. Pictures are taken to be loaded meanwhile by
    other processes.
    """
    import torch

    from detrofit.comparison.executors import LocalProcesses

    experiment = job.experiment.model_copy(update={"data": job.data.path})
    threads = torch.get_num_threads()
    torch.set_num_threads(min(threads, LocalProcesses(at_once).threads))
    try:
        return _measured(experiment, job.data.test_split)
    finally:
        torch.set_num_threads(threads)


def _measured(experiment: Experiment, test_split: str) -> float:
    from detrofit.data.loader import EvaluationLoader, TrainingLoader
    from detrofit.training.devices import Devices
    from detrofit.training.plan import make_plan
    from detrofit.training.prepare import make_model, open_material
    from detrofit.training.state import Progress

    settings = experiment.train
    material = open_material(experiment)
    devices = Devices(experiment.device, settings.precision, settings.channels_last)
    progress = Progress()
    model = devices.place(make_model(experiment, material.train.class_names, progress, resumed=False)[0])
    loader = TrainingLoader(material.train, experiment.imgsz, settings.batch, seed=experiment.seed, workers=0)
    plan = make_plan(experiment, -(-loader.steps_per_epoch // settings.accumulate), pretrained=progress.pretrained)
    update = _updater(experiment, plan, model, devices)
    steps = zip(range(MEASURED_STEPS), loader.batches(0, 0, True))
    of_update = min(_timed(partial(update, batch, step)) for step, batch in steps)
    batches = EvaluationLoader(material.val, experiment.imgsz, settings.batch, workers=0)
    images, _ = next(iter(batches))
    of_batch = min(_timed(partial(_predict, model, images, devices)) for _ in range(MEASURED_STEPS))
    validated = math.ceil(plan.epochs / settings.val_every) * len(material.val)
    scored = validated + len(material.dataset.split(test_split))
    return of_update * settings.accumulate * plan.total_steps + of_batch * scored / len(images)


def _updater(experiment: Experiment, plan: Any, model: Any, devices: Any) -> Callable[[Any, int], Any]:
    from detrofit.training.finite import FiniteGuard
    from detrofit.training.optimizer import make_optimizer
    from detrofit.training.step import Stepper

    network, optimizer = devices.accelerator.prepare(model, make_optimizer(model, experiment.train, plan))
    guard = FiniteGuard(model, experiment.runs)
    stepper = Stepper(model, network, optimizer, devices, guard, experiment.seed, experiment.train.clip, [])
    model.train()
    return lambda batch, step: stepper.update([batch], step, several_sizes=False)


def _predict(model: Any, images: Any, devices: Any) -> None:
    import torch

    with torch.inference_mode(), devices.autocast():
        model.eval()(devices.images(images)).prediction.boxes.sum().item()


def _timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
