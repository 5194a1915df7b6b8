"""A whole study: data, jobs, other tools' predictions, results and reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

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
    record_name,
    run_folder,
    study_jobs,
    write_record,
)
from detrofit.comparison.latencies import HERE, Measurement, measure_latencies, measurement_identity, read_bench
from detrofit.comparison.report.files import remember_data, write_reports
from detrofit.comparison.report.pictures import pictures_if_possible
from detrofit.comparison.runner import Progress, run_jobs
from detrofit.comparison.splits import StudyData, prepare_data
from detrofit.comparison.statistics import Reach, reachable
from detrofit.comparison.study import BASE, Study
from detrofit.config.schema import IMAGENET_WEIGHTS, NO_WEIGHTS
from detrofit.errors import DetrofitError
from detrofit.files import alone
from detrofit.training.run_folder import BEST
from detrofit.weights.fetch import fetch, is_remote


@dataclass(frozen=True)
class PlannedStudy:
    """A study in its folder: its data and jobs, and which of these are done already."""

    study: Study
    folder: Path
    data: StudyData
    jobs: list[Job]
    done: frozenset[str]  # identities

    @property
    def names(self) -> list[str]:
        """Of all that is trained here, the base first."""
        return [each.name for each in self.study.variants]

    @property
    def reach(self) -> Reach:
        """What its seeds can show."""
        settings = self.study.settings
        return reachable(len(settings.seeds), max(1, len(settings.variants) + len(settings.external)), settings.margin)


def plan_study(study: Study, folder: Path) -> PlannedStudy:
    """The jobs of a study, none of them started.

    Raises DetrofitError for anything wrong with weights, data, folder or predictions.

    Runs that results.json alone knows, as in a new clone, get records of their own, so that none is ever lost.
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
    for record in known.values():
        file = record_file(folder, record_name(record))
        if not file.exists() or (is_done(record) and not is_done(read_json(file))):
            write_record(folder, file.stem, record)
    done = {job.identity for job in jobs if is_done(known.get(job.identity))}
    return PlannedStudy(study, folder, data, jobs, frozenset(done))


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
    latency = [*kept_latencies(planned.folder), *(read_bench(file, planned.names) for file in bench)]
    settings, known, name = planned.study.settings, known_records(planned.folder), planned.folder.absolute().name
    others = external_records(settings.external, planned.data, settings.resamples, planned.folder, known)

    def results_of(records: list[Record]) -> Results:
        return study_results(planned.study, planned.data, [*records, *others], name, latency)

    records = run_jobs(
        planned.jobs, known, planned.folder, executor, show,
        keep=lambda records: write_results(results_of(records), planned.folder),
    )  # fmt: skip
    latency = study_latencies(planned, records, latency, say)
    results = results_of(records)
    remember_data(planned.folder, planned.data.path)
    pictures = pictures_if_possible(results, planned.data.open_test, [planned.folder], say)
    write_reports(results, planned.folder, pictures)
    if not results["variants"][0]["done"]:
        first = results["variants"][0]["failed"][0]["error"]
        raise DetrofitError(f"no run of the base succeeded, so that nothing can be compared: {first}")
    return results


def kept_latencies(folder: Path) -> list[Measurement]:
    """The measurements that an earlier sitting left in the study's results."""
    file = folder / RESULTS
    return read_json(file).get("latency", []) if file.is_file() else []


def study_latencies(
    planned: PlannedStudy, records: Sequence[Record], known: Sequence[Measurement], say: Callable[[str], None]
) -> list[Measurement]:
    """All measurements, the newest of each source, the study's own made now unless that of the same models is known."""
    by_source = {each["source"]: each for each in known}
    rounds, classes = planned.study.settings.latency_rounds, planned.data.class_names
    done = {record["variant"] for record in records if record["status"] == "done"}
    variants = [each for each in planned.study.variants if each.name in done]
    if rounds and variants and variants[0].name == BASE:
        identity = measurement_identity(variants, classes, rounds)
        if by_source.get(HERE, {}).get("identity") != identity:
            files = trained_files(planned)
            by_source[HERE] = measure_latencies(variants, files, classes, planned.folder / "exports", rounds, say)
    return list(by_source.values())


def trained_files(planned: PlannedStudy) -> dict[str, Path]:
    """The model file of each variant's first run that is in this folder."""
    runs = {job.variant: run_folder(planned.folder, job.name) / BEST for job in reversed(planned.jobs)}
    return {name: file for name, file in runs.items() if file.is_file()}
