"""One run of a study: its identity, and the record that it leaves, done or failed."""

from __future__ import annotations

import base64
import hashlib
import inspect
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from detrofit.comparison.splits import StudyData
from detrofit.comparison.study import Study, Variant
from detrofit.config.schema import AUTO_WEIGHTS, IMAGENET_WEIGHTS, NO_WEIGHTS, Experiment
from detrofit.errors import DetrofitError
from detrofit.files import file_digest, write_file
from detrofit.parts.registry import get_part
from detrofit.parts.retrofit import expand_address
from detrofit.training.workers import MAX_WORKERS
from detrofit.version import __version__
from detrofit.weights.fetch import is_remote

Record = dict[str, Any]
_PLACES = ("runs", "name", "device", "workers")  # settings of where a run is made, which do not change what it finds
_DECISIVE_ROOMS = ("parts", "model", "zoo", "config", "data", "weights", "evaluation", "distillation", "training")
_DECISIVE_FILES = ("randomness", "pictures", "comparison/worker")
_WEIGHTS_IN_A_WORD = (AUTO_WEIGHTS, IMAGENET_WEIGHTS, NO_WEIGHTS)  # no paths, also where a folder is called so
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
        """Of its folder and its record."""
        return record_name(vars(self))


def study_jobs(study: Study, data: StudyData) -> list[Job]:
    """All jobs, seed after seed, so that a study that is stopped early compares what it has.

    DetrofitError where two variants make the very same runs, as with one file under two names.
    """
    jobs = [
        _job(variant, seed, study.settings.resamples, data)
        for seed in study.settings.seeds
        for variant in study.variants
    ]
    first: dict[str, Job] = {}
    for job in jobs:
        if (other := first.setdefault(job.identity, job)) is not job:
            raise DetrofitError(f"'{other.variant}' and '{job.variant}' make the very same runs; leave one of them out")
    return jobs


def _job(variant: Variant, seed: int, resamples: int, data: StudyData) -> Job:
    train = variant.experiment.train.model_copy(update={"val_split": data.val_split})
    own = variant.experiment.model_copy(update={"seed": seed, "train": train})
    identity = _identity(own, variant.described["slots"], data, resamples)
    return Job(variant.name, seed, own, data, resamples, identity)


def _identity(experiment: Experiment, slots: Mapping[str, Any], data: StudyData, resamples: int) -> str:
    """Digest of all that decides a run's outcome; where it runs and is kept does not."""
    values = experiment.model_dump(mode="json")
    decisive = {key: value for key, value in values.items() if key not in (*_PLACES, "data", "plugins", "weights")}
    decisive["train"].pop("teacher")
    files = (*experiment.plugins, _path_of(experiment.weights), experiment.train.teacher)
    content = {
        "experiment": decisive,
        "files": [digest_of_file(file) if isinstance(file, Path) else file for file in files],
        "data": data.digest,
        "test": data.test_split,
        "resamples": resamples,
        "detrofit": __version__,
        **_order_that_counts(experiment.retrofit),
        **_installed_parts(slots, experiment.plugins),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _order_that_counts(retrofit: Mapping[str, Any]) -> dict[str, Any]:
    """The addresses in their order where they name a slot twice, since the last counts; else nothing."""
    named = [single for address in retrofit for single in expand_address(address)]
    return {"order": list(retrofit)} if len(set(named)) < len(named) else {}


def _installed_parts(slots: Mapping[str, Any], plugins: Sequence[Path]) -> dict[str, Any]:
    """Parts that other installed packages declare: package, version and a digest of the part's file; else nothing."""
    known = ("detrofit", *(file.name for file in plugins))
    parts = map(get_part, sorted({choice["part"] for choice in slots.values()}))
    found = {
        part.name: [part.origin.source, part.origin.version, digest_of_file(Path(inspect.getfile(part.build)))]
        for part in parts
        if part.origin.source not in known
    }
    return {"parts": found} if found else {}


def _path_of(weights: str) -> Path | str:
    """Weights as a path, which names on the hub and URLs are as well, or the word that they are."""
    return weights if weights in _WEIGHTS_IN_A_WORD else Path(weights)


def digest_of_file(place: Path) -> str:
    """Digest of a file, or of all files of a folder; of what is neither, its name."""
    if place.is_dir():
        files = sorted(file for file in place.rglob("*") if file.is_file())
        parts = [f"{file.relative_to(place).as_posix()} {digest_of_file(file)}" for file in files]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
    if not place.is_file():
        return str(place)
    return file_digest(place)


@cache
def code_digest() -> str:
    """Digest of the sources that decide a run's outcome, to tell runs of one version made with other code."""
    package = Path(__file__).parents[1]
    files = [file for room in _DECISIVE_ROOMS for file in (package / room).rglob("*.*") if file.suffix != ".pyc"]
    files += [package / f"{name}.py" for name in _DECISIVE_FILES]
    return hashlib.sha256("".join(map(digest_of_file, sorted(files))).encode()).hexdigest()[:16]


def job_description(job: Job, folder: Path, threads: int) -> dict[str, Any]:
    """All that a worker needs, with paths that any machine of a shared folder understands."""
    own = job.experiment
    places: dict[str, Any] = {
        "data": job.data.path.absolute(),
        "plugins": [file.absolute() for file in own.plugins],
        "weights": _absolute(own.weights),
        "train": own.train.model_copy(update={"teacher": own.train.teacher and own.train.teacher.absolute()}),
        "runs": (folder / "runs").absolute(),
        "name": job.name,
        "workers": min(MAX_WORKERS, threads) if own.workers is None else own.workers,
    }
    return {
        **record_head(job),
        "name": job.name,
        "folder": str(folder.absolute()),
        "experiment": own.model_copy(update=places).model_dump(mode="json"),
        "test_split": job.data.test_split,
        "resamples": job.resamples,
    }


def _absolute(weights: str) -> str:
    path = _path_of(weights)
    return str(path.absolute()) if isinstance(path, Path) and path.exists() else weights


def record_head(job: Job) -> Record:
    """What every record says, done or failed."""
    return {
        "variant": job.variant,
        "seed": job.seed,
        "identity": job.identity,
        "detrofit": __version__,
        "code": code_digest(),
        "experiment": portable(job.experiment.model_dump(mode="json")),
    }


def is_done(record: Record | None) -> bool:
    """Whether a record is that of a run with a result."""
    return record is not None and record["status"] == "done"


def run_folder(folder: Path, name: str) -> Path:
    """Where the job of that name trains, in the study's folder."""
    return folder / "runs" / name


def portable(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """An experiment's settings without where they were on one machine."""
    kept = {key: value for key, value in experiment.items() if key not in _PLACES}
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


def record_name(record: Mapping[str, Any]) -> str:
    """What a job's folder and record are called: readable, and of its identity alone."""
    return f"{record['variant']}-seed{record['seed']}-{record['identity'][:8]}"


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
            f"{file} is cut off, or no file of a study: put back a whole copy, or remove it: all else stays"
        ) from None
    if version != __version__:
        raise DetrofitError(
            f"{file} was written by detrofit {version}, this is {__version__}: use that version, or another --out"
        )
    return content


def known_records(folder: Path) -> dict[str, Record]:
    """Jobs of a study folder that are over, by identity, from results.json and from the jobs' own records; of two
    records of one job the finished one."""
    records: list[Record] = []
    if (file := folder / "results.json").is_file():
        content = read_json(file)
        if "runs" not in content:
            raise DetrofitError(f"{file} is not of a study: give the study another --out")
        records += [*content["runs"], *content.get("set_aside", [])]
    records += [read_json(file) for file in sorted((folder / "jobs").glob("*.json"))]
    return {record["identity"]: record for record in sorted(records, key=is_done)}
