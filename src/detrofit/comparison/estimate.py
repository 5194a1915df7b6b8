"""How long a job will take, from two measured updates of its own training."""

from __future__ import annotations

import time

from detrofit.config.schema import Experiment

MEASURED_STEPS = 2


def estimated_seconds(experiment: Experiment) -> float:
    """Seconds of a training with its validations: the second of two updates, times all; a validation picture is taken
    to cost a third of a training picture."""
    from detrofit.data.loader import TrainingLoader
    from detrofit.training.devices import Devices
    from detrofit.training.finite import FiniteGuard
    from detrofit.training.optimizer import make_optimizer
    from detrofit.training.plan import make_plan
    from detrofit.training.prepare import make_model, open_material
    from detrofit.training.state import Progress
    from detrofit.training.step import Stepper

    settings = experiment.train
    material = open_material(experiment)
    devices = Devices(experiment.device, settings.precision, settings.channels_last)
    progress = Progress()
    model = devices.place(make_model(experiment, material.train.class_names, progress, resumed=False)[0])
    loader = TrainingLoader(material.train, experiment.imgsz, settings.batch, seed=experiment.seed, workers=0)
    plan = make_plan(experiment, -(-loader.steps_per_epoch // settings.accumulate), pretrained=progress.pretrained)
    optimizer = make_optimizer(model, settings, plan)
    network, optimizer = devices.accelerator.prepare(model, optimizer)
    guard = FiniteGuard(model, experiment.runs)
    stepper = Stepper(model, network, optimizer, devices, guard, experiment.seed, settings.clip, [])
    model.train()
    seconds = float("inf")
    for step, batch in zip(range(MEASURED_STEPS), loader.batches(0, 0, True)):
        started = time.perf_counter()
        stepper.update([batch], step, several_sizes=False)
        seconds = min(seconds, time.perf_counter() - started)
    pictures = seconds / settings.batch
    validations = plan.epochs / settings.val_every * len(material.val) * pictures / 3
    return seconds * settings.accumulate * plan.total_steps + validations
