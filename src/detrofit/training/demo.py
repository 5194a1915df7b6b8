"""The demonstration: its own data, the nano model stock and with ExtraDW, both scored, side by side."""

from __future__ import annotations

import csv
import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detrofit.config.load import load_experiment
from detrofit.data.demo import draw_demo_dataset
from detrofit.errors import DetrofitError
from detrofit.evaluation.evaluate import Evaluation
from detrofit.files import write_file
from detrofit.model.costs import count_flops, count_parameters
from detrofit.training.loop import train
from detrofit.training.run_folder import BEST
from detrofit.training.score import score_file
from detrofit.weights.model_file import load_model

IMAGE_SIZE = 160
EPOCHS = 8
VARIANTS: dict[str, dict[str, Any]] = {"stock": {}, "extradw": {"backbone.stage[3,4].block": "extradw"}}
# Few steps and large objects: no zoom-out, one size, and a learning rate for minutes instead of days.
SETTINGS: dict[str, Any] = {
    "train": {"epochs": EPOCHS, "batch": 8, "lr": 1e-3},
    "augment": {"zoom_out": 0.0, "photometric": 0.0, "multiscale": 0.0},
}


@dataclass(frozen=True)
class DemoRow:
    """One variant: test scores at the end, cost, and seconds of training."""

    variant: str
    ap: float
    ap50: float
    parameters: int
    gflops: float
    seconds: float


def run_demo(folder: Path, seed: int = 0) -> list[DemoRow]:
    """Draw the data, train and score both variants under `folder`; a row each, also in `table.csv`.

    Raises DetrofitError if the folder exists.
    """
    if folder.exists():
        raise DetrofitError(f"{folder} exists already; remove it or name another with --out")
    data = draw_demo_dataset(folder / "data", seed)
    rows = []
    for variant, retrofit in VARIANTS.items():
        values = {"model": "rtdetr-n", "retrofit": retrofit, "data": data, "imgsz": IMAGE_SIZE, "seed": seed}
        started = time.perf_counter()
        run = train(load_experiment({**values, "runs": folder, "name": variant, **SETTINGS}))
        seconds = time.perf_counter() - started
        _, evaluation = score_file(run.folder / BEST, data, "test")
        if evaluation is not None:
            rows.append(_row(variant, evaluation, run.folder / BEST, seconds))
    write_file(folder / "table.csv", _as_csv(rows))
    return rows


def _row(variant: str, evaluation: Evaluation, file: Path, seconds: float) -> DemoRow:
    model = load_model(file)
    flops = count_flops(model, (IMAGE_SIZE, IMAGE_SIZE))
    summary = evaluation.summary
    return DemoRow(variant, summary["AP"], summary["AP50"], count_parameters(model), flops / 1e9, seconds)


def _as_csv(rows: list[DemoRow]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(DemoRow.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(vars(row) for row in rows)
    return text.getvalue()
