"""What the process of one job does: train or go on, score on the test split, leave a record."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from detrofit.comparison.jobs import Record, pack_resamples, portable, write_record
from detrofit.comparison.resampled_ap import bootstrap_weights, resampled_ap
from detrofit.comparison.size_matching import match_by_size
from detrofit.config.schema import Experiment
from detrofit.data.index import DetectionIndex
from detrofit.data.open import open_dataset
from detrofit.errors import DetrofitError
from detrofit.evaluation.curves import read_metrics
from detrofit.evaluation.predictions import Predictions
from detrofit.training.run_folder import BEST, METRICS
from detrofit.training.state import FILE as STATE
from detrofit.version import __version__

BOOTSTRAP_SEED = 20_000  # all runs of all studies draw the same pictures, so that any two are paired


def main(file: Path) -> None:
    """Do the job that a JSON file describes and write its record, also where it fails."""
    job = json.loads(file.read_text("utf-8"))
    folder = Path(job["folder"])
    record = {key: job[key] for key in ("variant", "seed", "identity")} | {"detrofit": __version__}
    started = time.time()
    try:
        record |= {"status": "done", **run_job(Experiment(**job["experiment"]), job["test_split"], job["resamples"])}
    except DetrofitError as error:
        record |= {"status": "failed", "error": str(error)}
    record |= {"experiment": portable(job["experiment"]), "seconds": time.time() - started}
    write_record(folder, job["name"], record)


def run_job(experiment: Experiment, test_split: str, resamples: int) -> Record:
    """Train (from the last saved state, if there is one), score the best checkpoint on the test split."""
    import torch

    from detrofit.training.loop import resume, train
    from detrofit.training.score import score_file

    run = experiment.runs / str(experiment.name)
    if not (run / STATE).exists():
        shutil.rmtree(run, ignore_errors=True)  # of a run that was killed before it had saved anything
    result = resume(run) if run.exists() else train(experiment)
    best = result.folder / BEST
    out, evaluation = score_file(
        best, experiment.data, test_split, batch=experiment.train.batch, workers=experiment.workers,
        device=experiment.device, plugins=experiment.plugins,
    )  # fmt: skip
    assert evaluation is not None
    index = open_dataset(experiment.data).split(test_split)
    predictions = Predictions.read(out / "predictions.json", index)
    rows = read_metrics(result.folder / METRICS)
    return {
        "val_AP": result.best,
        "curve": [[row["epoch"], row["AP"]] for row in rows],
        **score_record(index, predictions, resamples, torch.get_num_threads()),
        **_costs(best, experiment),
    }


def score_record(index: DetectionIndex, predictions: Predictions, resamples: int, threads: int = 1) -> Record:
    """AP by metric on the test split as it is, and resampled; metrics without objects are left out."""
    weights = np.concatenate(
        [np.ones((1, len(index)), np.int32), bootstrap_weights(len(index), resamples, BOOTSTRAP_SEED)]
    )
    numbers = resampled_ap(match_by_size(index, predictions), weights, threads).summary(index.class_names)
    present = {name: values for name, values in numbers.items() if not np.isnan(values[0])}
    return {
        "test": {name: float(values[0]) for name, values in present.items()},
        "resamples": pack_resamples({name: values[1:] for name, values in present.items()}),
        "test_pictures": len(index),
    }


def _costs(file: Path, experiment: Experiment) -> dict[str, Any]:
    import torch

    from detrofit.model.costs import count_flops, count_parameters
    from detrofit.model.fuse import fuse
    from detrofit.weights.model_file import load_model

    fused = fuse(load_model(file, plugins=experiment.plugins).eval())
    return {
        "parameters": count_parameters(fused),
        "gflops": count_flops(fused, experiment.imgsz) / 1e9,
        "file_bytes": file.stat().st_size,
        "latency_ms": _latency(fused, experiment.imgsz),
        "threads": torch.get_num_threads(),
    }


def _latency(model: Any, size: tuple[int, int], repeats: int = 10) -> float:
    """Median milliseconds of a fused model in torch on the CPU, batch 1, after two calls to warm up."""
    import torch

    image = torch.rand(1, 3, *size)
    times = []
    with torch.inference_mode():
        for _ in range(repeats + 2):
            started = time.perf_counter()
            model(image)
            times.append(1000 * (time.perf_counter() - started))
    return float(np.median(times[2:]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
