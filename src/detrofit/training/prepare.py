"""What a training starts from: data that fits it, a model with its weights, and a loud line where there are none."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from detrofit.config.models import frame_and_choices
from detrofit.config.schema import Experiment
from detrofit.data.index import DetectionIndex
from detrofit.data.open import Dataset, open_dataset
from detrofit.errors import DetrofitError
from detrofit.model.build import build_model
from detrofit.model.detector import RTDETR
from detrofit.parts.registry import load_plugins
from detrofit.training.state import Progress
from detrofit.weights.start import load_start_weights


@dataclass(frozen=True)
class Material:
    """The data of a training."""

    dataset: Dataset
    train: DetectionIndex
    val: DetectionIndex


def open_material(experiment: Experiment) -> Material:
    """The training and validation splits; DetrofitError where one is missing or empty."""
    dataset = open_dataset(experiment.data)
    material = Material(dataset, dataset.split("train"), dataset.split(experiment.train.val_split))
    for index in (material.train, material.val):
        if len(index) == 0:
            raise DetrofitError(f"the split '{index.split}' of {experiment.data} has no pictures")
    if len(material.train.labels) == 0:
        raise DetrofitError(f"the split 'train' of {experiment.data} has no boxes; `detrofit data check` tells why")
    return material


def make_model(
    experiment: Experiment, class_names: tuple[str, ...], progress: Progress, resumed: bool
) -> tuple[RTDETR, str]:
    """The model with its starting weights, and a line about them for people; `progress` notes what is pretrained.

    A resumed training needs no starting weights: its state has all weights.
    """
    load_plugins(experiment.plugins)
    frame, stock, retrofit = frame_and_choices(experiment.model.name, experiment.retrofit, experiment.model.frame)
    model = build_model(frame, stock, retrofit, num_classes=len(class_names), seed=experiment.seed)
    if resumed:
        return model, f"resuming after {progress.step} steps"
    if experiment.weights is None:
        line = (
            "STARTING FROM RANDOM NUMBERS: on small data this usually costs many points of AP and many epochs; "
            "give pretrained weights with --weights"
        )
        return model, line
    progress.pretrained, line = load_start_weights(model, experiment.weights, class_names)
    return model, line


def set_training_mode(model: nn.Module, frozen_norms: list[nn.Module]) -> None:
    """Training mode, except for the norms that keep their statistics."""
    model.train()
    for norm in frozen_norms:
        norm.eval()
