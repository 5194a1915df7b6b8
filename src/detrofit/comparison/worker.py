"""What the process of one job does: train or go on, score on the test split, leave a record."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from detrofit.comparison.costs import model_costs, peak_memory
from detrofit.comparison.jobs import Record, code_digest, pack_resamples, portable, run_folder, write_record
from detrofit.comparison.lifeline import end_with_parent
from detrofit.config.schema import Experiment
from detrofit.data.index import DetectionIndex
from detrofit.data.open import open_dataset
from detrofit.errors import DetrofitError
from detrofit.evaluation.curves import read_metrics
from detrofit.evaluation.predictions import Predictions
from detrofit.evaluation.resampled_ap import bootstrap_weights, resampled_ap
from detrofit.evaluation.size_matching import match_by_size
from detrofit.files import write_file
from detrofit.training.run_folder import BEST, METRICS
from detrofit.training.state import FILE as STATE
from detrofit.version import __version__

BOOTSTRAP_SEED = 20_000  # all runs of all studies draw the same pictures, so that any two are paired


def main(file: Path) -> None:
    """Do the job that a JSON file describes and write its record, also where it fails."""
    end_with_parent()
    job = json.loads(file.read_text("utf-8"))
    folder, name, started = Path(job["folder"]), job["name"], time.time()
    before = earlier_seconds(folder / "logs" / f"{name}.seconds.json", run_folder(folder, name) / STATE)
    record = {key: job[key] for key in ("variant", "seed", "identity", "detrofit")} | {"code": code_digest()}
    try:
        if job["detrofit"] != __version__:
            raise DetrofitError(f"detrofit {__version__} is here, and the study is of {job['detrofit']}; install that")
        experiment = Experiment(**job["experiment"])
        record |= {"status": "done", **run_job(experiment, job["test_split"], job["resamples"], folder)}
    except DetrofitError as error:
        reason = str(error).replace(f"{folder}{os.sep}", "")  # results name no folder of this machine
        record |= {"status": "failed", "error": reason, "curve": learning_curve(run_folder(folder, name))}
    record |= {"experiment": portable(job["experiment"]), "seconds": before + time.time() - started}
    write_record(folder, name, record)


def earlier_seconds(file: Path, state: Path) -> float:
    """Seconds of a job's earlier sittings, each up to the last state that it saved; `file` notes that a new one begins.

    0 where there is no state: then all is done anew.
    """
    seconds = 0.0
    try:
        last = json.loads(file.read_text("utf-8"))
        seconds = last["seconds"] + max(0.0, state.stat().st_mtime - last["started"])
    except (OSError, ValueError):
        pass
    write_file(file, json.dumps({"seconds": seconds, "started": time.time()}))
    return seconds


def run_job(experiment: Experiment, test_split: str, resamples: int, folder: Path) -> Record:
    """Train (from the last saved state, if there is one), score the best checkpoint on the test split.

    `folder` is the study's, which the paths in the record are relative to.
    """
    from detrofit.training.loop import train
    from detrofit.training.warm_start import warm_start_interrupted

    run = run_folder(folder, str(experiment.name))
    if not (run / STATE).exists() and not warm_start_interrupted(run):
        shutil.rmtree(run, ignore_errors=True)  # of a run that was killed before it had saved anything
    result = train(experiment, resume_from=run if run.exists() else None)
    memory = peak_memory(experiment.device) if result.pace.pictures else {}  # of a training that made its last steps
    return {
        "val_AP": result.best,
        "curve": learning_curve(run),
        **score_run(run / BEST, experiment, test_split, resamples, folder),
        "start": start_facts(run, experiment),
        "train_seconds_per_picture": result.pace.seconds_per_picture,
        **memory,
        "machine": machine_facts(experiment),
    }


def score_run(best: Path, experiment: Experiment, test_split: str, resamples: int, folder: Path) -> Record:
    """What a run's model file reaches on the test split, its predictions kept beside it, and what it costs."""
    import torch

    from detrofit.training.score import score_file

    run = best.parent
    out, evaluation = score_file(
        best, experiment.data, test_split, batch=experiment.train.batch, workers=experiment.workers,
        device=experiment.device, precision=experiment.train.precision, out=run / test_split,
        plugins=experiment.plugins,
    )  # fmt: skip
    assert evaluation is not None
    index = open_dataset(experiment.data).split(test_split)
    predictions = Predictions.read(out / "predictions.json", index)
    kept = keep_predictions(out / "predictions.json", run / f"predictions_{test_split}.json.gz")
    return {
        **score_record(index, predictions, resamples, torch.get_num_threads()),
        "predictions": kept.relative_to(folder).as_posix(),
        **model_costs(best, experiment),
    }


def learning_curve(run: Path) -> list[list[float]]:
    """Epoch and validation AP, as far as a run has come."""
    rows = read_metrics(run / METRICS) if (run / METRICS).exists() else []
    return [[row["epoch"], row["AP"]] for row in rows]


def keep_predictions(source: Path, target: Path) -> Path:
    """Move COCO results to `target`, compressed."""
    write_file(target, gzip.compress(source.read_bytes(), mtime=0))
    source.unlink()
    return target


def start_facts(run: Path, experiment: Experiment) -> dict[str, Any]:
    """What a training started from and the learning rates that this gave it, to tell where variants differ in them."""
    from detrofit.training.plan import make_plan
    from detrofit.training.run_folder import TRANSFER
    from detrofit.training.state import load_state

    progress, _ = load_state(run)
    plan = make_plan(experiment, progress.steps_per_epoch, pretrained=progress.pretrained)
    taken = json.loads((run / TRANSFER).read_text("utf-8")) if (run / TRANSFER).exists() else {}
    return {
        "pretrained": progress.pretrained,
        "kept_share_of_parameters": taken.get("shares_of_parameters", {}).get("kept", 0.0),
        "warm_started_parts": len(taken.get("warm_start", {})),
        "lr": plan.lr,
        "backbone_lr_factor": plan.backbone_lr_factor,
        "steps": plan.total_steps,
    }


def machine_facts(experiment: Experiment) -> dict[str, Any]:
    """Where a run was made."""
    import torch

    from detrofit.deployment.latency import describe_machine
    from detrofit.training.devices import Devices

    devices = Devices(experiment.device, experiment.train.precision)
    gpu = torch.cuda.get_device_name(devices.device) if devices.device.type == "cuda" else None
    facts = {"device": gpu or devices.device.type, "precision": devices.precision, "torch": torch.__version__}
    return {**describe_machine(), **facts, "threads": torch.get_num_threads()}


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


if __name__ == "__main__":
    main(Path(sys.argv[1]))
