"""A warm start: fresh parts first learn to do what the parts do that they replace."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress as Bar
from torch import nn

from detrofit.config.models import frame_and_choices
from detrofit.config.schema import Experiment
from detrofit.data.loader import TrainingLoader
from detrofit.distillation.features import Batch, Capture, Lessons, endless_batches
from detrofit.distillation.local import LocalSettings, LocalTraining, Trainee
from detrofit.distillation.norms import reestimate_norms
from detrofit.distillation.replaced import find_replaced
from detrofit.errors import DetrofitError
from detrofit.model.build import build_model
from detrofit.model.detector import RTDETR
from detrofit.model.places import under
from detrofit.training.devices import Devices
from detrofit.training.state import FILE as STATE
from detrofit.weights.model_file import is_model_file, load_model
from detrofit.weights.start import load_start, plan_start

WARM_STATE = "warm_start.pt"
NORM_PICTURES = 400  # that batch norms are measured on afterwards


@dataclass
class WarmStart:
    """The fresh parts of a model and the model that they learn from.

    Attributes:
        teacher: the model of the given weights, with the parts that they were trained with.
        parts: copies of the fresh parts, by the name of the module.
        line: what is done, for people.
    """

    experiment: Experiment
    teacher: RTDETR
    parts: dict[str, nn.Module]
    line: str

    def run(
        self,
        model: RTDETR,
        frozen_norms: Sequence[nn.Module],
        devices: Devices,
        loader: TrainingLoader,
        folder: Path,
    ) -> dict[str, float]:
        """Train the parts, put them into `model`, measure its norms anew; the imitation error of each part.

        The main process trains the parts on its share of the batches of `loader`, and keeps a state in `folder`, from
        which a run that is stopped meanwhile goes on.
        """
        if not self.parts:
            return {}
        errors = devices.from_main(lambda: self._train(devices, loader, folder / WARM_STATE))
        for name, part in self.parts.items():
            model.get_submodule(name).load_state_dict(part.state_dict())
        devices.share_state(model)
        batches = endless_batches(loader, _prepared(devices))(0)
        count = max(1, NORM_PICTURES // loader.order.batch_size)
        reestimate_norms(model, (next(batches)[0] for _ in range(count)), list(self.parts), keep=frozen_norms)
        devices.share_buffers(model)
        return errors

    def _train(self, devices: Devices, loader: TrainingLoader, state_file: Path) -> dict[str, float]:
        settings = LocalSettings(steps=self.experiment.train.warm_start_steps)
        trainees = [Trainee(name, name, part.to(devices.device)) for name, part in self.parts.items()]
        training = LocalTraining(
            trainees, settings, seed=self.experiment.seed, autocast=devices.autocast_without_scaler
        )
        if not training.restore(state_file):
            training.save(state_file)
        capture = Capture(devices.place(self.teacher), list(self.parts))
        lessons = Lessons(capture, endless_batches(loader, _prepared(devices)), autocast=devices.autocast)
        with Bar(console=Console(stderr=True)) as bar:
            task = bar.add_task("warm start", total=settings.steps, completed=training.step)
            training.run(lessons.from_number, state_file, lambda: bar.advance(task))
        for trainee in trainees:
            if trainee.diverged:
                raise DetrofitError(
                    f"the warm start of {trainee.key} diverged; start it cold with --warm-start none, "
                    "or change the part"
                )
        return {trainee.key: trainee.error for trainee in trainees}

    def clear(self, folder: Path, writes: bool) -> None:
        """Remove the state of the warm start, once there is one of the training itself."""
        if writes:
            (folder / WARM_STATE).unlink(missing_ok=True)


def warm_start_interrupted(folder: Path) -> bool:
    """Whether a run was stopped in its warm start: from then on there is a state of the training itself."""
    return (folder / WARM_STATE).exists() and not (folder / STATE).exists()


def plan_warm_start(
    experiment: Experiment,
    model: RTDETR,
    class_names: tuple[str, ...],
    taken: Mapping[str, Any] | None,
) -> WarmStart:
    """The warm start of a model; `taken` says what of it came from the experiment's weights (`transfer_json`).

    Raises DetrofitError where the weights are no whole detector's, which has nothing to imitate.
    """
    if taken is None or not taken["detector"]:
        raise DetrofitError("--warm-start distill needs the weights of a whole detector to imitate: give --weights")
    teacher = _teacher(experiment, class_names)
    found = find_replaced(teacher, model, experiment.imgsz)
    names = [name for name in found.names if any(under(tensor, name) for tensor in taken["fresh"])]
    parts = {name: copy.deepcopy(model.get_submodule(name)) for name in names}
    return WarmStart(experiment, teacher, parts, _line(names, found.unmatched, experiment.train.warm_start_steps))


def _teacher(experiment: Experiment, class_names: tuple[str, ...]) -> RTDETR:
    """The given weights in the model that they were trained in: a file of ours says which; others' are stock."""
    frame, stock, _ = frame_and_choices(experiment.model.name, None, experiment.model.frame)
    teacher = build_model(frame, stock, {}, num_classes=len(class_names))
    plan = plan_start(teacher, experiment.model.name, experiment.weights)
    file = plan.sources[0].file
    if file.is_file() and is_model_file(file):
        return load_model(file, plugins=experiment.plugins)
    load_start(teacher, plan, class_names)
    return teacher.eval()


def _prepared(devices: Devices) -> Callable[[Batch], Batch]:
    """Pictures as floats on the device, with their targets."""
    return lambda batch: (devices.images(batch[0]), batch[1])


def _line(names: Sequence[str], unmatched: Sequence[str], steps: int) -> str:
    if not names and not unmatched:
        return "warm start: no part is fresh, nothing to do"
    told = f"warm start: {steps} steps for {', '.join(names)}" if names else "warm start: nothing can be imitated"
    return told + (
        f"; of other shapes than what they replace, so left cold: {', '.join(unmatched)}" if unmatched else ""
    )
