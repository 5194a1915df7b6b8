"""A run that starts from given weights leaves `transfer.json`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detrofit import build
from detrofit.config.schema import Experiment
from detrofit.training.loop import train
from detrofit.weights.model_file import ModelInfo, save_model


def test_transfer_is_written(tiny: Callable[..., Experiment], tmp_path: Path) -> None:
    experiment = tiny()
    model = build(experiment.model.name, num_classes=2, settings=experiment.model.frame, seed=4)
    save_model(tmp_path / "start.safetensors", model, ModelInfo(experiment.model.name, ("a", "b"), (0, 1), (64, 64)))
    settings: dict[str, Any] = {"weights": str(tmp_path / "start.safetensors"), "require": ["backbone", "encoder"]}
    run = train(tiny(**settings)).folder
    content = json.loads((run / "transfer.json").read_text("utf-8"))
    assert content["source"].startswith("detrofit ") and content["shares_of_parameters"]["kept"] > 0.5
    assert all(slot["parameters"]["fresh"] == 0 for slot in content["slots"] if slot["address"].startswith("backbone."))
