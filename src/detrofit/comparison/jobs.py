"""One run of a study: its identity, and the record that it leaves, done or failed."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detrofit.comparison.splits import StudyData
from detrofit.comparison.study import Study
from detrofit.config.schema import Experiment
from detrofit.errors import DetrofitError
from detrofit.files import file_digest, write_file
from detrofit.version import __version__
from detrofit.weights.fetch import is_remote

Record = dict[str, Any]
_STEPS = 65534  # AP is kept in steps of 1 / 65534, finer than any interval's uncertainty; 65535 marks an absent one


@dataclass(frozen=True)
class Job:
    """A training of one variant with one seed, and its scoring on the test split."""

    variant: str
    seed: int
    experiment: Experiment
    data: StudyData
    resamples: int
    identity: str

    @property
    def name(self) -> str:
        """Of its folder and its record: readable, and of this identity alone."""
        return f"{self.variant}-seed{self.seed}-{self.identity[:8]}"


def study_jobs(study: Study, data: StudyData, folder: Path) -> list[Job]:
    """All jobs, seed after seed, so that a study that is stopped early compares what it has."""
    return [
        _job(variant.name, variant.experiment, seed, study.settings.resamples, data, folder)
        for seed in study.settings.seeds
        for variant in study.variants
    ]


def _job(name: str, experiment: Experiment, seed: int, resamples: int, data: StudyData, folder: Path) -> Job:
    values = experiment.model_dump(mode="json") | {"data": str(data.path), "seed": seed, "runs": str(folder / "runs")}
    values["train"] |= {"val_split": data.val_split}
    identity = _identity(values, data, resamples)
    values["name"] = f"{name}-seed{seed}-{identity[:8]}"
    return Job(name, seed, Experiment(**values), data, resamples, identity)


def _identity(values: Mapping[str, Any], data: StudyData, resamples: int) -> str:
    """Digest of all that decides a run's outcome; where it runs and is kept does not."""
    decisive = {key: value for key, value in values.items() if key not in ("data", "runs", "name", "device", "workers")}
    files = [*decisive.pop("plugins"), *filter(None, (decisive["weights"], decisive["train"]["teacher"]))]
    content = {
        "experiment": decisive,
        "files": [_file_digest(Path(file)) for file in files],
        "data": data.digest,
        "test": data.test_split,
        "resamples": resamples,
        "detrofit": __version__,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _file_digest(file: Path) -> str:
    return file_digest(file) if file.is_file() else str(file)


def portable(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """An experiment's settings without where they were on one machine."""
    kept = {key: value for key, value in experiment.items() if key not in ("runs", "name", "device", "workers")}
    named = {"data": Path(kept["data"]).name} if "data" in kept else {}
    if kept.get("weights") and not is_remote(kept["weights"]):
        named["weights"] = Path(kept["weights"]).name
    train = dict(kept.get("train", {}))
    if train.get("teacher"):
        train["teacher"] = Path(train["teacher"]).name
    return kept | named | {"train": train, "plugins": [Path(file).name for file in kept.get("plugins", [])]}


def pack_resamples(values: Mapping[str, np.ndarray]) -> dict[str, str]:
    """AP `[R]` of each metric in 0..1, NaN included, as text for JSON."""
    return {
        name: base64.b64encode(
            zlib.compress(np.where(np.isnan(each), _STEPS + 1, np.round(each * _STEPS)).astype("<u2").tobytes())
        ).decode()
        for name, each in values.items()
    }


def unpack_resamples(text: str) -> np.ndarray:
    """The inverse of `pack_resamples` for one metric."""
    steps = np.frombuffer(zlib.decompress(base64.b64decode(text)), "<u2").astype(np.float64)
    return np.where(steps > _STEPS, np.nan, steps / _STEPS)


def record_file(folder: Path, name: str) -> Path:
    """Where a job's record is."""
    return folder / "jobs" / f"{name}.json"


def write_record(folder: Path, name: str, record: Record) -> None:
    """Write a job's record, whole."""
    write_file(record_file(folder, name), json.dumps(record, ensure_ascii=False))


def read_json(file: Path) -> Any:
    """What a JSON file of a study holds; DetrofitError if it is cut off or was not written by this version."""
    try:
        content = json.loads(file.read_text("utf-8"))
        version = content["detrofit"]
    except (OSError, ValueError, KeyError, TypeError):
        raise DetrofitError(
            f"{file} is cut off or no file of a study; remove it, the rest of the study stays"
        ) from None
    if version != __version__:
        raise DetrofitError(
            f"{file} was written by detrofit {version}, this is {__version__}: use that version, or another --out"
        )
    return content


def known_records(folder: Path) -> dict[str, Record]:
    """Finished and failed jobs of a study folder by identity, from results.json and from the jobs' own records."""
    records: list[Record] = []
    if (folder / "results.json").is_file():
        records += read_json(folder / "results.json")["runs"]
    records += [read_json(file) for file in sorted((folder / "jobs").glob("*.json"))]
    return {record["identity"]: record for record in records}
