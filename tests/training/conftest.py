"""A tiny data set and a tiny training on it, for all tests of the room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detrofit.config.load import load_experiment, merge_dotted
from detrofit.config.schema import Experiment
from detrofit.data.demo import draw_demo_dataset

# Small enough for a step in a tenth of a second, with every kind of part in place.
TINY: dict[str, Any] = {
    "model.name": "rtdetr-n",
    "model.num_queries": 20,
    "model.decoder_layers": 2,
    "model.num_denoising": 10,
    "imgsz": 64,
    "workers": 0,
    "device": "cpu",
    "train.epochs": 2,
    "train.batch": 4,
    "train.lr": 1e-3,
}


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve training pictures and four each for validation and test, drawn."""
    folder = tmp_path_factory.mktemp("tiny") / "data"
    return draw_demo_dataset(folder, 0, pictures={"train": 12, "val": 4, "test": 4}, size=(96, 96))


@pytest.fixture
def tiny(tiny_data: Path, tmp_path: Path) -> Callable[..., Experiment]:
    """Makes the tiny experiment with dotted settings over it; runs go to the test's folder."""

    def make(**settings: Any) -> Experiment:
        return load_experiment(merge_dotted({"data": tiny_data, "runs": tmp_path}, {**TINY, **settings}))

    return make
