"""What a training starts from: data that fits it, a model with its weights, and a loud line where there are none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from detrofit.config.models import frame_and_choices
from detrofit.config.schema import Experiment
from detrofit.data.index import DetectionIndex
from detrofit.data.open import Dataset, open_dataset
from detrofit.data.pictures import missing_pictures
from detrofit.distillation.teacher import Teacher, load_teacher
from detrofit.errors import DetrofitError
from detrofit.files import file_digest
from detrofit.model.build import assemble, build_model
from detrofit.model.detector import RTDETR
from detrofit.model.frame import Frame
from detrofit.model.shapes import check_shapes
from detrofit.parts.registry import load_plugins
from detrofit.parts.retrofit import PartChoice
from detrofit.training.devices import Devices
from detrofit.training.run_folder import BEST
from detrofit.training.state import Progress
from detrofit.weights.start import StartPlan, load_start, plan_start
from detrofit.weights.transfer_report import transfer_json, transfer_lines


@dataclass(frozen=True)
class Material:
    """The data of a training; `description` is what there is of it, in a line."""

    dataset: Dataset
    train: DetectionIndex
    val: DetectionIndex
    description: str


def open_material(experiment: Experiment) -> Material:
    """The training and validation splits; DetrofitError where one is missing or empty, or another one is faulty."""
    dataset = open_dataset(experiment.data)
    train, val = dataset.split("train"), _validation_split(dataset, experiment.train.val_split)
    for index in (train, val):
        check_objects(index, experiment.data)
    return Material(dataset, train, val, dataset.description)


def _validation_split(dataset: Dataset, name: str) -> DetectionIndex:
    try:
        return dataset.split(name)
    except DetrofitError as error:
        raise DetrofitError(
            f"{error}; validation chooses the best weights: add that split, or name another with train.val_split"
        ) from None


def check_objects(index: DetectionIndex, data: Path) -> None:
    """DetrofitError for a split without pictures that exist, or without objects; `data` is where it is from."""
    check_pictures(index, data)
    if index.crowd.all():
        raise DetrofitError(f"the split '{index.split}' of {data} has no boxes; `detrofit data check` tells why")


def check_pictures(index: DetectionIndex, data: Path) -> None:
    """DetrofitError for a split without pictures, or with some that do not exist; `data` is where it is from."""
    if len(index) == 0:
        raise DetrofitError(f"the split '{index.split}' of {data} has no pictures")
    missing = missing_pictures(index)
    if missing:
        raise DetrofitError(
            f"{len(missing):,} of {len(index):,} pictures of the split '{index.split}' of {data} do not exist, the "
            f"first is {index.path(missing[0])}; put them there, or make a copy without them: detrofit data convert"
        )


def open_teacher(
    experiment: Experiment, class_names: tuple[str, ...], progress: Progress, devices: Devices
) -> Teacher | None:
    """The model that `train.teacher` names; DetrofitError unless it is the one that a resumed training began with."""
    file = experiment.train.teacher
    if file is None:
        return None
    file = file / BEST if file.is_dir() else file
    teacher = load_teacher(file, class_names, plugins=experiment.plugins)
    devices.place(teacher.model)
    digest = file_digest(file)
    if progress.teacher not in ("", digest):
        raise DetrofitError(f"teacher {file} is another file than when the training began; put the first one back")
    progress.teacher = digest
    return teacher


def check_model(experiment: Experiment) -> None:
    """DetrofitError if the model cannot be built or a part gives maps of a wrong shape, known without any weights."""
    with torch.device("meta"):
        model, filled = assemble(*_choices(experiment), num_classes=1)
    check_shapes(model, filled, experiment.imgsz)


def make_model(
    experiment: Experiment,
    class_names: tuple[str, ...],
    progress: Progress,
    resumed: bool,
    from_main: Callable[[Callable[[], StartPlan]], StartPlan] = lambda find: find(),
) -> tuple[RTDETR, str, dict[str, Any] | None]:
    """The model with its starting weights, a line about them for people, and what was taken over of given ones.

    `progress` notes what is pretrained, and whose weights it started from. `from_main` lets the main of several
    processes find the weights and tells the others.

    A resumed training needs no starting weights: its state has all weights.
    """
    model = build_model(*_choices(experiment), num_classes=len(class_names), seed=experiment.seed)
    if resumed:
        return model, f"resuming after {progress.step} steps", None
    plan = from_main(lambda: plan_start(model, experiment.model.name, experiment.weights))
    start = load_start(model, plan, class_names, experiment.require)
    progress.pretrained = start.pretrained
    progress.origin = {"started_from": start.source, "licence_of_start": start.licence} if start.report else {}
    if start.report is None:
        return model, start.line, None
    facts: dict[str, Any] = {"weights": experiment.weights, "source": start.source, "licence": start.licence}
    facts |= {"detector": start.detector}
    taken = transfer_json(model, start.report, experiment.imgsz, **facts)
    return model, "\n".join([start.line, *transfer_lines(taken)]), taken


def _choices(experiment: Experiment) -> tuple[Frame, dict[str, PartChoice], dict[str, PartChoice]]:
    load_plugins(experiment.plugins)
    return frame_and_choices(experiment.model.name, experiment.retrofit, experiment.model.frame)


def set_training_mode(model: nn.Module, frozen_norms: list[nn.Module]) -> None:
    """Training mode, except for the norms that keep their statistics."""
    model.train()
    for norm in frozen_norms:
        norm.eval()
