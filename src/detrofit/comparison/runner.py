"""Running a study's jobs, each in a process of its own, with a live table; what is finished is never run again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from detrofit.comparison.jobs import Job, Record, known_records, portable, read_json, record_file, write_record
from detrofit.errors import DetrofitError
from detrofit.evaluation.curves import read_metrics
from detrofit.files import write_file
from detrofit.training.run_folder import METRICS
from detrofit.version import __version__

POLL_SECONDS = 0.5
WORKER = ("-m", "detrofit.comparison.worker")


@dataclass
class Progress:
    """Where a study stands: jobs that wait, run (with their start) and are over, and what they took."""

    waiting: list[Job]
    running: dict[str, tuple[Job, float]] = field(default_factory=dict)
    over: dict[str, Record] = field(default_factory=dict)  # by identity
    taken: list[float] = field(default_factory=list)  # seconds of the jobs done in this sitting
    at_once: int = 1

    def seconds_left(self) -> float | None:
        """From the mean time of the jobs done in this sitting; None before the first."""
        if not self.taken:
            return None
        mean = sum(self.taken) / len(self.taken)
        now = time.monotonic()
        running = sum(max(0.0, mean - (now - started)) for _, started in self.running.values())
        return (running + mean * len(self.waiting)) / self.at_once

    def state_of(self, job: Job) -> str:
        """The job's state in words."""
        if job.identity in self.over:
            record = self.over[job.identity]
            return f"AP {100 * record['test']['AP']:.1f}" if record["status"] == "done" else "failed"
        if job.name in self.running:
            return f"epoch {_epochs_done(job)}/{job.experiment.train.epochs or '?'}"
        return "waits"


def run_jobs(
    jobs: list[Job], folder: Path, at_once: int = 1, show: Callable[[Progress], None] = lambda progress: None
) -> list[Record]:
    """Run what is not done yet, `at_once` jobs at a time, and return all records; a failed job does not stop the rest.

    A job that failed before is tried again. Interrupted jobs go on from their last saved state next time.
    """
    known = known_records(folder)
    done = {job.identity: known[job.identity] for job in jobs if _is_done(known.get(job.identity))}
    progress = Progress([job for job in jobs if job.identity not in done], over=done, at_once=at_once)
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        while progress.waiting or progress.running:
            while progress.waiting and len(progress.running) < at_once:
                job = progress.waiting.pop(0)
                processes[job.name] = _start(job, folder, at_once)
                progress.running[job.name] = (job, time.monotonic())
            show(progress)
            time.sleep(POLL_SECONDS)
            for name in [name for name, process in processes.items() if process.poll() is not None]:
                _finish(name, processes.pop(name).returncode, progress, folder)
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait()
    show(progress)
    return [progress.over[job.identity] for job in jobs]


def _is_done(record: Record | None) -> bool:
    return record is not None and record["status"] == "done"


def _start(job: Job, folder: Path, at_once: int) -> subprocess.Popen[bytes]:
    content = {
        "variant": job.variant,
        "seed": job.seed,
        "identity": job.identity,
        "name": job.name,
        "folder": str(folder.absolute()),
        "experiment": job.experiment.model_dump(mode="json"),
        "test_split": job.data.test_split,
        "resamples": job.resamples,
    }
    file = write_file(folder / "logs" / f"{job.name}.json", json.dumps(content))
    threads = max(1, (os.cpu_count() or 1) // at_once)
    environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if at_once > 1 else {})
    record_file(folder, job.name).unlink(missing_ok=True)  # of a failed try
    with (folder / "logs" / f"{job.name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *WORKER, str(file)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
        )


def _finish(name: str, code: int, progress: Progress, folder: Path) -> None:
    job, started = progress.running.pop(name)
    if not record_file(folder, name).exists():
        log = folder / "logs" / f"{name}.log"
        write_record(folder, name, _killed(job, code, log, time.monotonic() - started))
    record = read_json(record_file(folder, name))
    progress.over[job.identity] = record
    if _is_done(record):
        progress.taken.append(time.monotonic() - started)


def _killed(job: Job, code: int, log: Path, seconds: float) -> Record:
    """The record of a job whose process ended without one."""
    lines = [line for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    return {
        "variant": job.variant,
        "seed": job.seed,
        "identity": job.identity,
        "detrofit": __version__,
        "status": "failed",
        "error": f"its process ended with code {code}: {lines[-1] if lines else 'no output'} (see {log})",
        "experiment": portable(job.experiment.model_dump(mode="json")),
        "seconds": seconds,
    }


def _epochs_done(job: Job) -> int:
    try:
        rows = read_metrics(job.experiment.runs / str(job.experiment.name) / METRICS)
    except DetrofitError:
        return 0
    return int(rows[-1]["epoch"]) if rows else 0
