"""A whole study: data, jobs, other tools' predictions, results and reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detrofit.comparison.analysis import RESULTS, Results, study_results, write_results
from detrofit.comparison.executors import Executor, LocalProcesses
from detrofit.comparison.external import external_records, read_external
from detrofit.comparison.jobs import (
    Job,
    Record,
    is_done,
    known_records,
    read_json,
    record_file,
    record_head,
    record_name,
    study_jobs,
    write_record,
)
from detrofit.comparison.latencies import (
    HERE,
    Measurement,
    are_outdated,
    measure_latencies,
    measurement_identity,
    read_bench,
)
from detrofit.comparison.looks import Look, with_look
from detrofit.comparison.report.changes import differing
from detrofit.comparison.report.files import remember_data, write_reports
from detrofit.comparison.report.pictures import pictures_if_possible
from detrofit.comparison.runner import Progress, run_jobs
from detrofit.comparison.splits import StudyData, prepare_data
from detrofit.comparison.study import BASE, Study
from detrofit.comparison.traded import traded_records
from detrofit.config.schema import IMAGENET_WEIGHTS, NO_WEIGHTS
from detrofit.errors import DetrofitError
from detrofit.files import alone
from detrofit.training.run_folder import BEST
from detrofit.weights.fetch import fetch, is_remote

_FILES = ("data", "plugins", "weights", "train.teacher")  # whose names may change where their content does not


@dataclass(frozen=True)
class PlannedStudy:
    """A study in its folder: its data and jobs, which of these are done already, and when it was judged before."""

    study: Study
    folder: Path
    data: StudyData
    jobs: list[Job]
    done: frozenset[str]  # identities
    looks: list[Look]
    known: dict[str, Record]  # all that the folder has, by identity

    @property
    def names(self) -> list[str]:
        """Of all models of this study, the base first."""
        return [each.name for each in self.study.all_variants]

    @property
    def reach(self) -> str:
        """What its seeds can show."""
        return str(self.results([])["reach"])

    @property
    def unused(self) -> list[str]:
        """Sentences on finished runs that the study can no longer use."""
        return unused_runs(self.jobs, self.known)

    def results(self, records: Sequence[Record], latency: Sequence[Measurement] = ()) -> Results:
        """What follows from such records; finished ones of the folder that are not among them are kept aside."""
        name, here = self.folder.absolute().name, {record["identity"] for record in records}
        aside = [record for identity, record in self.known.items() if is_done(record) and identity not in here]
        return study_results(self.study, self.data, records, name, latency, self.looks) | {"set_aside": aside}


def plan_study(study: Study, folder: Path) -> PlannedStudy:
    """The jobs of a study, none of them started.

    Raises DetrofitError for anything wrong with weights, data, folder or predictions.
    """
    settings, base = study.settings, study.base.experiment
    for weights in {variant.experiment.weights for variant in study.variants} - {NO_WEIGHTS, IMAGENET_WEIGHTS}:
        if not is_remote(weights):
            fetch(weights)  # or every run would fail for want of them
    data = prepare_data(base.data, base.train.val_split, settings.test_split, folder)
    if settings.external:
        read_external(settings.external, data.open_test())
    jobs = study_jobs(study, data)
    known = known_records(folder)
    done = {job.identity for job in jobs if is_done(known.get(job.identity))}
    return PlannedStudy(study, folder, data, jobs, frozenset(done), kept(folder, "looks"), known)


def unused_runs(jobs: Sequence[Job], known: Mapping[str, Record]) -> list[str]:
    """Why finished runs of the same names and seeds are not those of the study, a sentence for each reason."""
    trained = [record for record in known.values() if is_done(record) and "experiment" in record]
    done = {(record["variant"], record["seed"]): record for record in trained}
    reasons: Counter[str] = Counter()
    for job in jobs:
        record = done.get((job.variant, job.seed))
        if record is not None and not is_done(known.get(job.identity)):
            rows = differing(record["experiment"], record_head(job)["experiment"])
            settings = [key for key, _, _ in rows if key not in _FILES]
            reasons[", ".join(settings) or "the data, `resamples` or a file that runs start from"] += 1
    return [
        f"{number} finished run{'s' * (number != 1)} in this folder cannot be used (since then {what} changed), and "
        "will be made anew beside the old"
        for what, number in reasons.items()
    ]


def run_study(
    planned: PlannedStudy,
    executor: Executor | None = None,
    show: Callable[[Progress], None] = lambda progress: None,
    say: Callable[[str], None] = lambda line: None,
    bench: Sequence[Path] = (),
) -> Results:
    """Run what is not done, score other tools' predictions, time the models, and write results and reports.

    Args:
        executor: where jobs run; by default here, one after another.
        show: is given the progress while jobs run; `say` a line on what follows.
        bench: files of `detrofit bench` made elsewhere.

    Raises DetrofitError if no run of the base succeeded (all that was done stays), or another command runs this study.
    """
    with alone(planned.folder, "study"):
        return _run_study(planned, executor or LocalProcesses(), show, say, bench)


def _run_study(
    planned: PlannedStudy,
    executor: Executor,
    show: Callable[[Progress], None],
    say: Callable[[str], None],
    bench: Sequence[Path],
) -> Results:
    latency = [*kept(planned.folder, "latency"), *(read_bench(file, planned.names) for file in bench)]
    settings, known = planned.study.settings, known_records(planned.folder)
    _write_missing_records(known, planned.folder)
    others = external_records(settings.external, planned.data, settings.resamples, planned.folder, known)

    records = run_jobs(
        planned.jobs, known, planned.folder, executor, show,
        keep=lambda records: write_results(planned.results([*records, *others], latency), planned.folder),
    )  # fmt: skip
    by_identity = known | {record["identity"]: record for record in records}
    records += traded_records(planned.study.traded, planned.jobs, by_identity, planned.folder, say)
    latency = study_latencies(planned, records, latency, say)
    results = with_look(planned.results([*records, *others], latency))
    write_results(results, planned.folder)
    remember_data(planned.folder, planned.data.path)
    pictures = pictures_if_possible(results, planned.data.open_test, [planned.folder], say)
    write_reports(results, planned.folder, pictures)
    if not results["variants"][0]["done"]:
        first = results["variants"][0]["failed"][0]["error"]
        raise DetrofitError(f"no run of the base succeeded, so that nothing can be compared: {first}")
    return results


def _write_missing_records(known: Mapping[str, Record], folder: Path) -> None:
    """Give runs that results.json alone knows, as in a new clone, records of their own, so that none is ever lost."""
    for record in known.values():
        file = record_file(folder, record_name(record))
        if not file.exists() or (is_done(record) and not is_done(read_json(file))):
            write_record(folder, file.stem, record)


def kept(folder: Path, key: str) -> list[dict[str, Any]]:
    """What earlier sittings left in the study's results under "latency" or "looks"."""
    file = folder / RESULTS
    return read_json(file).get(key, []) if file.is_file() else []


def study_latencies(
    planned: PlannedStudy, records: Sequence[Record], known: Sequence[Measurement], say: Callable[[str], None]
) -> list[Measurement]:
    """All measurements, the newest of each source, the study's own made now unless that of the same models is known."""
    by_source = {each["source"]: each for each in known}
    rounds, classes = planned.study.settings.latency_rounds, planned.data.class_names
    done = {record["variant"] for record in records if record["status"] == "done"}
    variants = [each for each in planned.study.all_variants if each.name in done]
    if rounds and variants and variants[0].name == BASE:
        identity, exports = measurement_identity(variants, classes, rounds), planned.folder / "exports"
        files = trained_files(records, planned.folder)
        if by_source.get(HERE, {}).get("identity") != identity or are_outdated(files, exports):
            by_source[HERE] = measure_latencies(variants, files, classes, exports, rounds, say)
    return list(by_source.values())


def trained_files(records: Sequence[Record], folder: Path) -> dict[str, Path]:
    """The model file of each variant's first run that is in the folder of the study, whatever the run was called."""
    done = [record for record in reversed(records) if is_done(record)]
    files = [(record["variant"], (folder / record["predictions"]).parent / BEST) for record in done]
    return {name: file for name, file in files if file.is_file()}
