"""A short fine-tuning of grafted models, and of the teacher, all alike: detection loss and the teacher's queries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from detrofit.config.schema import Experiment
from detrofit.distillation.replaced import find_replaced
from detrofit.evaluation.curves import read_metrics
from detrofit.grafting.runs import train_in
from detrofit.grafting.score import Score, Scorer
from detrofit.grafting.workshop import Workshop
from detrofit.model.detector import RTDETR
from detrofit.training.run_folder import METRICS
from detrofit.weights.model_file import load_model, read_info

BATCH = 8


def finish(workshop: Workshop, scorer: Scorer, files: Mapping[str, Path], epochs: int) -> dict[str, dict[str, Any]]:
    """Fine-tune model files by name; for each the best file (on the search split) and its score."""
    found: dict[str, dict[str, Any]] = {}
    for name, file in files.items():
        run = workshop.folder / "finish" / f"{name}-{epochs}{_mark(workshop.settings.recipe)}"
        record = f"finish/{run.name}.json"
        if not workshop.record(record):
            best = train_in(run, _experiment(workshop, file, run, epochs))
            workshop.look(len(read_metrics(run / METRICS)))  # each chose whether it is the best so far
            score = scorer.score(workshop.devices.place(load_model(best, plugins=workshop.settings.plugins)))
            workshop.keep(record, {"file": str(best.relative_to(workshop.folder)), "score": asdict(score)})
        content = workshop.record(record)
        found[name] = {"file": workshop.folder / content["file"], "score": Score(**content["score"])}
    return found


def _mark(recipe: Mapping[str, Any]) -> str:
    """What tells the fine-tunings of one recipe from those of another; the defaults have none."""
    return (
        f"-{hashlib.sha256(json.dumps(recipe, sort_keys=True, default=str).encode()).hexdigest()[:8]}" if recipe else ""
    )


def _experiment(workshop: Workshop, file: Path, run: Path, epochs: int) -> Experiment:
    values, recipe = rebuild(file, workshop.settings.plugins), workshop.settings.recipe
    model = load_model(file, plugins=workshop.settings.plugins)
    train = {"batch": min(BATCH, len(workshop.train)), **recipe.get("train", {})}
    values |= {
        "data": workshop.data_path,
        "seed": workshop.settings.seed,
        "device": workshop.settings.device,
        "workers": workshop.settings.workers,
        "runs": run.parent,
        "name": run.name,
        "augment": recipe.get("augment", {}),
        "train": {
            **train,
            "epochs": epochs,
            "teacher": workshop.file,
            "val_split": workshop.search.split,
            "lr_by_slot": full_rates(workshop.teacher, model, workshop.size),
        },
    }
    return Experiment.model_validate(values)


def full_rates(teacher: RTDETR, grafted: RTDETR, image_size: tuple[int, int]) -> dict[str, float]:
    """`train.lr_by_slot` of a fine-tuning: grafted parts learn at the full rate, the rest of the backbone at the share
    for pretrained ones."""
    return dict.fromkeys(find_replaced(teacher, grafted, image_size).names, 1.0)


def retrofit_of(model: RTDETR) -> dict[str, dict[str, Any]]:
    """A model's swaps by address, as an experiment takes them."""
    return {address: dict(model.slots[address]) for address in model.retrofit if address in model.slots}


def rebuild(file: Path, plugins: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The settings of an experiment that builds the model of a file and starts from its weights."""
    info, model = read_info(file), load_model(file, plugins=plugins)
    return {
        "model": {"name": info.name, **model.frame.model_dump(mode="json")},
        "retrofit": retrofit_of(model),
        "plugins": list(plugins),
        "imgsz": info.input_size,
        "weights": str(file),
    }
