"""Where jobs run: what the study's loop asks of a place, and processes on this machine; `ray_cluster.py` is another."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from detrofit.comparison.lifeline import start_bound
from detrofit.training.workers import usable_cores

WORKER = ("-m", "detrofit.comparison.worker")


@dataclass(frozen=True)
class Ended:
    """A job that runs no more: its process's exit code, or None where its machine was lost with it."""

    name: str
    code: int | None


class Executor(Protocol):
    """A place for jobs. A job is a JSON file that the worker is started with; its record is a file, too."""

    threads: int  # of each job

    def slots(self) -> int:
        """How many jobs it can run at once, now."""

    def start(self, name: str, file: Path, log: Path) -> None:
        """Start a job; its output is added to `log`."""

    def ended(self) -> list[Ended]:
        """The jobs that ended since this was last asked."""

    def close(self) -> None:
        """End all jobs that run."""


class LocalProcesses:
    """Jobs as processes of this machine, `at_once` at a time, its cores divided among them.

    `worker` is what Python is started with, before a job's file; by default a study's.
    """

    def __init__(self, at_once: int = 1, worker: Sequence[str] | None = None) -> None:
        self.at_once, self.worker = at_once, worker or WORKER
        self.threads = max(1, usable_cores() // at_once)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def slots(self) -> int:
        return self.at_once

    def start(self, name: str, file: Path, log: Path) -> None:
        self._running[name] = start_bound([*self.worker, str(file)], log, thread_settings(self.threads))

    def ended(self) -> list[Ended]:
        codes = {name: process.poll() for name, process in self._running.items()}
        over = [Ended(name, code) for name, code in codes.items() if code is not None]
        for each in over:
            _close_pipe(self._running.pop(each.name))
        return over

    def close(self) -> None:
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            process.wait()
            _close_pipe(process)
        self._running.clear()


def thread_settings(threads: int) -> dict[str, str]:
    """Environment variables that give a process so many threads, or the fewer that the user allows."""
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    return {"OMP_NUM_THREADS": str(min(threads, int(allowed)) if allowed.isdigit() else threads)}


def _close_pipe(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
