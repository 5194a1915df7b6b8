"""The base's trained models at another input size, with fewer queries or decoder layers: what every swap must beat."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from detrofit.comparison.jobs import Job, Record, code_digest, is_done, portable, record_name, run_folder, write_record
from detrofit.comparison.study import BASE, Variant, by_name, refuse_same_names
from detrofit.errors import DetrofitError
from detrofit.training.run_folder import BEST
from detrofit.version import __version__


def parse_traded(files: Iterable[Path], known: Any = None) -> dict[str, Any]:
    """The points that files `trade.json` chose beside those of a study's file; DetrofitError where one comes twice."""
    found = by_name(known, "traded")
    for file in files:
        chosen = read_chosen(file)
        refuse_same_names([*found, *chosen])
        found |= chosen
    return found


def read_chosen(file: Path) -> dict[str, dict[str, Any]]:
    """The point that a `trade.json` chose, by a name that says it, as the setting `traded` of a study takes it.

    DetrofitError for a file that is no such record, or chose nothing.
    """
    try:
        chosen = json.loads(file.read_text("utf-8"))["chosen"]
        if chosen is None:
            raise DetrofitError(f"{file} has chosen nothing; run `detrofit trade` with --budget")
        (height, width), queries, layers = chosen["imgsz"], chosen["num_queries"], chosen["decoder_layers"]
    except (OSError, ValueError, KeyError, TypeError):
        raise DetrofitError(f"{file} is no trade.json of `detrofit trade`; give one") from None
    name = f"base at {height}x{width}, {queries} queries, {layers} decoder layer{'s' * (layers != 1)}"
    return {name: {"imgsz": [height, width], "model.num_queries": queries, "model.decoder_layers": layers}}


def traded_records(
    traded: Sequence[Variant],
    jobs: Sequence[Job],
    records: Mapping[str, Record],
    folder: Path,
    say: Callable[[str], None] = lambda line: None,
) -> list[Record]:
    """A record for each seed of the base that is done and at hand, and each of `traded`; what is known stays.

    Args:
        jobs: of the study.
        records: all that are known, by identity.
        folder: of the study.
    """
    found = []
    for job in (each for each in jobs if each.variant == BASE and is_done(records.get(each.identity))):
        for variant in traded:
            head = _head(variant, job)
            known = records.get(head["identity"])
            trained = run_folder(folder, job.name) / BEST
            if known is not None and is_done(known):
                found.append({**known, "variant": variant.name, "seed": job.seed})
            elif not trained.is_file():
                say(f"'{variant.name}' has no seed {job.seed}: the base's model file is not in this folder")
            else:
                say(f"scoring {variant.name}, seed {job.seed}")
                found.append(_scored(head, variant, job, trained, folder))
    return found


def _head(variant: Variant, job: Job) -> Record:
    """What the record says before anything is scored; its identity is that of the base's run and the point."""
    frame = variant.described["model"]
    point = [*variant.experiment.imgsz, frame["num_queries"], frame["decoder_layers"]]
    identity = hashlib.sha256(json.dumps([job.identity, point]).encode()).hexdigest()
    experiment = variant.experiment.model_copy(update={"seed": job.seed})
    return {
        "variant": variant.name,
        "seed": job.seed,
        "identity": identity,
        "detrofit": __version__,
        "code": code_digest(),
        "experiment": portable(experiment.model_dump(mode="json")),
        "status": "done",
    }


def _scored(head: Record, variant: Variant, job: Job, trained: Path, folder: Path) -> Record:
    """The record of a point, or of why it cannot be scored, which is tried again the next time."""
    try:
        return _record(head, variant, job, trained, folder)
    except DetrofitError as error:
        return {**head, "status": "failed", "error": str(error).replace(f"{folder}{os.sep}", "")}


def _record(head: Record, variant: Variant, job: Job, trained: Path, folder: Path) -> Record:
    """Cut the trained model down, score it on the test split, and write the record."""
    from detrofit.comparison.worker import score_run
    from detrofit.weights.model_file import load_model, read_info, save_model
    from detrofit.weights.truncate import truncated

    plugins, frame = variant.experiment.plugins, variant.described["model"]
    model = load_model(trained, plugins=plugins)
    shorter = truncated(model, num_queries=frame["num_queries"], decoder_layers=frame["decoder_layers"])
    file = run_folder(folder, record_name(head)) / BEST
    save_model(file, shorter, replace(read_info(trained), input_size=variant.experiment.imgsz))
    experiment = variant.experiment.model_copy(update={"data": job.data.path})
    record = {**head, **score_run(file, experiment, job.data.test_split, job.resamples, folder)}
    write_record(folder, record_name(head), record)
    return record
