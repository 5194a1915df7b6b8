"""Running a study's jobs wherever an executor puts them; what is done is never run again."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from detrofit.comparison.executors import Ended, Executor
from detrofit.comparison.jobs import (
    Job,
    Record,
    is_done,
    job_description,
    read_json,
    record_file,
    record_head,
    run_folder,
    write_record,
)
from detrofit.errors import DetrofitError
from detrofit.evaluation.curves import read_metrics
from detrofit.files import write_file
from detrofit.training.interruption import Interruption
from detrofit.training.run_folder import METRICS

POLL_SECONDS = 0.5
MOST_LOSSES = 3  # of machines under one job, after which it counts as failed
FILE_SECONDS = 30.0  # within which a shared folder shows a file that another machine wrote


@dataclass
class Running:
    """A job that runs: since when, and how many epochs it had then."""

    job: Job
    started: float
    epochs_before: int


@dataclass
class Progress:
    """Where a study stands: jobs that wait, run (by name) and are over (by identity); `slots` run at once."""

    folder: Path
    waiting: list[Job]
    over: dict[str, Record]
    running: dict[str, Running] = field(default_factory=dict)
    losses: Counter[str] = field(default_factory=Counter)
    slots: int = 1

    def seconds_left(self) -> float | None:
        """From what jobs of the same variant took, or else any, or from the epochs of what runs; None before that."""
        left = [self._left(each) for each in self.running.values()]
        expected = [self._expected(job) for job in self.waiting]
        if not left and not expected:
            return 0.0
        usual = [each for each in (*left, *expected) if each is not None]
        if not usual:
            return None
        default = max(usual)
        total = sum(default if each is None else each for each in (*left, *expected))
        return total / max(1, min(self.slots, len(left) + len(expected)))

    def _left(self, running: Running) -> float | None:
        elapsed, epochs = time.monotonic() - running.started, running.job.experiment.train.epochs
        done = self.epochs_of(running.job)
        if epochs and done > running.epochs_before:
            return elapsed * (epochs - done) / (done - running.epochs_before)
        expected = self._expected(running.job)
        return None if expected is None else max(0.0, expected - elapsed)

    def _expected(self, job: Job) -> float | None:
        taken = [(record["variant"], record["seconds"]) for record in self.over.values() if is_done(record)]
        own = [seconds for variant, seconds in taken if variant == job.variant] or [seconds for _, seconds in taken]
        return sum(own) / len(own) if own else None

    def epochs_of(self, job: Job) -> int:
        """How many epochs of a job are done, validations counted."""
        try:
            rows = read_metrics(run_folder(self.folder, job.name) / METRICS)
        except DetrofitError:
            return 0
        return int(rows[-1]["epoch"]) if rows else 0

    def state_of(self, job: Job) -> str:
        """The job's state in words."""
        if job.identity in self.over:
            record = self.over[job.identity]
            return f"AP {100 * record['test']['AP']:.1f}" if is_done(record) else "failed"
        if job.name in self.running:
            return f"epoch {self.epochs_of(job)}/{job.experiment.train.epochs or '?'}"
        return "waits"


def run_jobs(
    jobs: Sequence[Job],
    known: dict[str, Record],
    folder: Path,
    executor: Executor,
    show: Callable[[Progress], None] = lambda progress: None,
    keep: Callable[[list[Record]], None] = lambda records: None,
) -> list[Record]:
    """Run what is not done yet and return all records; a failed job does not stop the rest.

    A job that failed before is tried again; an interrupted one, and one whose machine was lost, goes on from its last
    saved state. `keep` is given the records so far whenever a job ends. Ctrl-C and SIGTERM end the jobs, which save
    their state, and raise KeyboardInterrupt.
    """
    own = {job.identity: {"variant": job.variant, "seed": job.seed} for job in jobs}  # a variant may be renamed
    over = {identity: known[identity] | names for identity, names in own.items() if is_done(known.get(identity))}
    progress = Progress(folder, [job for job in jobs if job.identity not in over], over)
    try:
        with Interruption():
            while progress.waiting or progress.running:
                progress.slots = executor.slots()
                while progress.waiting and len(progress.running) < progress.slots:
                    _start(progress.waiting.pop(0), progress, executor)
                show(progress)
                time.sleep(POLL_SECONDS)
                for ended in executor.ended():
                    if _finish(ended, progress):
                        keep([progress.over[job.identity] for job in jobs if job.identity in progress.over])
    finally:
        executor.close()
    show(progress)
    return [progress.over[job.identity] for job in jobs]


def _start(job: Job, progress: Progress, executor: Executor) -> None:
    description = json.dumps(job_description(job, progress.folder, executor.threads))
    file = write_file(progress.folder / "logs" / f"{job.name}.json", description)
    record_file(progress.folder, job.name).unlink(missing_ok=True)  # of a failed try
    progress.running[job.name] = Running(job, time.monotonic(), progress.epochs_of(job))
    executor.start(job.name, file.absolute(), file.with_suffix(".log").absolute())


def _finish(ended: Ended, progress: Progress) -> bool:
    """Take in the record of a job that ended; False if it runs again since its machine was lost."""
    running = progress.running.pop(ended.name)
    job, file = running.job, record_file(progress.folder, ended.name)
    if ended.code is None and not file.exists():
        progress.losses[job.name] += 1
        if progress.losses[job.name] < MOST_LOSSES:
            progress.waiting.insert(0, job)
            return False
    _await_file(file, ended.code == 0)
    if not file.exists():
        error = why_it_ended(ended.code, progress.folder / "logs" / f"{job.name}.log")
        failed = {"status": "failed", "error": error, "seconds": time.monotonic() - running.started}
        write_record(progress.folder, job.name, record_head(job) | failed)
    progress.over[job.identity] = read_json(file)
    return True


def _await_file(file: Path, written: bool) -> None:
    deadline = time.monotonic() + FILE_SECONDS
    while written and not file.exists() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def why_it_ended(code: int | None, log: Path) -> str:
    """What ended a process that left no record."""
    where = f"{log.parent.name}/{log.name}"
    if code is None:
        return f"its machine was lost {MOST_LOSSES} times while it ran (see {where})"
    lines = [line for line in _log_lines(log) if line.strip()]
    last = lines[-1].strip()[:300] if lines else "no output"
    if code < 0:
        name = signal.Signals(-code).name
        hint = ", as when memory runs out" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint} (see {where})"
    return f"its process ended with code {code}: {last} (see {where})"


def _log_lines(log: Path) -> list[str]:
    try:
        return log.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []
