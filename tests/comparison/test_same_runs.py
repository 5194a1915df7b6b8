"""Real trainings that differ by their seeds alone, told apart as two variants would be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detrofit.comparison.analysis import analyse
from detrofit.comparison.worker import run_job
from detrofit.config.load import load_experiment
from detrofit.data.demo import draw_demo_dataset
from detrofit.training.loop import train
from detrofit.training.run_folder import BEST
from tests.comparison.records import make_results

RUNS, STUDIES = 12, 200
SEEDS = (4, 6)  # the sign-flip test can agree with six alone: with four the interval stands by itself


@pytest.mark.slow
def test_runs_of_one_variant_with_other_seeds_are_not_told_apart(tmp_path: Path) -> None:
    draw_demo_dataset(tmp_path / "data", pictures={"train": 48, "val": 8, "test": 24}, size=(96, 96))
    settings: dict[str, Any] = {"epochs": 12, "batch": 4, "lr": 1e-3, "val_every": 12}
    common = {"model": "rtdetr-n", "data": tmp_path / "data", "imgsz": 96, "workers": 0, "runs": tmp_path / "runs"}
    common["augment"] = {"zoom_out": 0, "photometric": 0, "iou_crop": 0, "multiscale": 0}
    start = train(load_experiment({**common, "name": "start", "train": settings})).folder / BEST
    records = []
    for seed in range(RUNS):
        own = {"name": f"same{seed}", "seed": seed, "weights": str(start), "train": {**settings, "epochs": 1}}
        records.append(run_job(load_experiment({**common, **own}), "test", 400, tmp_path))
    scores = [100 * record["test"]["AP"] for record in records]
    assert np.mean(scores) > 2 and np.std(scores) > 0.05, f"there must be something to tell apart: {scores}"
    for seeds in SEEDS:
        words = [_word(records, seeds, np.random.default_rng(study)) for study in range(STUDIES)]
        shares = {word: words.count(word) / STUDIES for word in ("better", "worse")}
        assert max(shares.values()) <= 0.05, (seeds, shares, scores)


def _word(records: list[dict[str, Any]], seeds: int, generator: np.random.Generator) -> str:
    """The verdict of a study whose base and variant are drawn from the same runs."""
    results = make_results({"base": 0.0, "same": 0.0}, seeds=seeds)
    places = [(name, seed) for name in ("base", "same") for seed in range(seeds)]
    head = {"identity": "0", "status": "done", "seconds": 1.0}
    results["runs"] = [
        {**records[run], **head, "variant": name, "seed": seed}
        for (name, seed), run in zip(places, generator.permutation(len(records)))
    ]
    return str(analyse(results)["comparisons"][0]["verdict"]["word"])
