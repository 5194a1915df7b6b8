"""A tiny model file and drawn data for the tests of the room."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from detrofit.config.models import build
from detrofit.data.demo import draw_demo_dataset
from detrofit.data.open import open_dataset
from detrofit.distillation.norms import reestimate_norms
from detrofit.grafting.budget import parse_budget
from detrofit.grafting.workshop import GraftSettings, Workshop
from detrofit.weights.model_file import ModelInfo, save_model
from tests.distillation.tiny_models import SETTINGS, SMALL, images

SLOT = "backbone.stage4.block1"


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn data") / "data"
    return draw_demo_dataset(folder, 0, pictures={"train": 10, "val": 6, "test": 4}, size=(96, 96))


@pytest.fixture(scope="session")
def model_file(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without training: enough to graft on, as long as nobody asks how good it is."""
    dataset = open_dataset(drawn)
    model = build("rtdetr-n", SMALL, num_classes=len(dataset.class_names), settings=SETTINGS)
    reestimate_norms(model, [images(number, 16) for number in range(2)], ["backbone"])
    info = ModelInfo("rtdetr-n", tuple(dataset.class_names), tuple(dataset.category_ids), (64, 64))
    file = tmp_path_factory.mktemp("a model") / "teacher.safetensors"
    save_model(file, model, info)
    return file


def quick(*budgets: str, **changes: Any) -> GraftSettings:
    """Settings for a graft in seconds."""
    values: dict[str, Any] = {
        "slots": (SLOT, "encoder.fusion_block0"),
        "candidates": ("none", {"part": "extradw", "expand": 1.0}, {"part": "csp-rep", "blocks": 2}),
        "budgets": tuple(map(parse_budget, budgets)),
        "runtime": "torch",
        "steps": 4,
        "second_steps": 2,
        "batch": 4,
        "norm_pictures": 8,
        "rounds": 6,
        "assemblies": 2,
        "knobs": False,
        "device": "cpu",
        "workers": 0,
    }
    return GraftSettings(**{**values, **changes})


class SearchSplit:
    """Six pictures that nobody looks at."""

    split = "val"

    def __len__(self) -> int:
        return 6


def bare_workshop(folder: Path, **changes: Any) -> Workshop:
    """One that keeps and notes, without a model or pictures."""
    values: dict[str, Any] = {field.name: None for field in fields(Workshop) if field.name != "notes"}
    values |= {"folder": folder, "settings": quick(), "info": SimpleNamespace(input_size=(64, 64))}
    return Workshop(**{**values, "search": SearchSplit(), **changes})


@pytest.fixture
def without_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a teacher that was never trained."""
    from detrofit.grafting import score

    monkeypatch.setattr(score, "LEAST_AP", -1.0)
    monkeypatch.setattr(score, "SURE", -1e9)
