"""Local training of a library on several processes or machines: a job a slot, its state in the graft's folder."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from detrofit.comparison.executors import Ended, Executor
from detrofit.comparison.runner import MOST_LOSSES, POLL_SECONDS, why_it_ended
from detrofit.errors import DetrofitError
from detrofit.files import write_file
from detrofit.grafting.workshop import GraftSettings, Workshop, progress_bar
from detrofit.training.interruption import Interruption
from detrofit.training.workers import MAX_WORKERS

OpenExecutor = Callable[[Sequence[str]], Executor]  # what Python is started with for a job, to the place where jobs run
WORKER = ("-m", "detrofit.grafting.worker")


def train_slots(workshop: Workshop, addresses: Sequence[str], open_executor: OpenExecutor) -> None:
    """Train the candidates of these slots, each slot in a process of its own, wherever the executor puts it.

    A slot whose machine was lost goes on elsewhere from its last saved state. Ctrl-C and SIGTERM end the jobs and raise
    KeyboardInterrupt. Raises DetrofitError where a job fails; what the others have saved stays.
    """
    executor = open_executor(WORKER)
    waiting, losses = list(addresses), Counter[str]()
    running: set[str] = set()
    try:
        title = f"local training, {len(addresses)} slots in processes of their own"
        with Interruption(), progress_bar(title, len(addresses)) as advance:
            while waiting or running:
                while waiting and len(running) < executor.slots():
                    running.add(waiting[0])
                    _start(workshop, executor, waiting.pop(0))
                time.sleep(POLL_SECONDS)
                for ended in executor.ended():
                    running.remove(ended.name)
                    if _is_over(ended, losses, workshop.folder):
                        advance()
                    else:
                        waiting.insert(0, ended.name)
    finally:
        executor.close()


def job_settings(settings: GraftSettings, threads: int) -> dict[str, Any]:
    """What decides the local training, as JSON that any machine of a shared folder understands."""
    values = asdict(settings) | {
        "budgets": (),
        "bench": None,
        "plugins": [each.absolute() for each in settings.plugins],
    }
    workers = min(MAX_WORKERS, threads) if settings.workers is None else settings.workers
    content: dict[str, Any] = json.loads(json.dumps(values | {"workers": workers}, default=str))
    return content


def read_settings(content: dict[str, Any]) -> GraftSettings:
    """The inverse of `job_settings`."""
    several = {key: tuple(content[key]) for key in ("slots", "candidates", "budgets")}
    return GraftSettings(**{**content, **several, "plugins": tuple(map(Path, content["plugins"]))})


def _start(workshop: Workshop, executor: Executor, address: str) -> None:
    job = {
        "file": str(workshop.file.absolute()),
        "data": str(workshop.source.absolute()),
        "folder": str(workshop.folder.absolute()),
        "slot": address,
        "settings": job_settings(workshop.settings, executor.threads),
    }
    file = write_file(workshop.folder / "logs" / f"{address}.json", json.dumps(job))
    executor.start(address, file.absolute(), _log(workshop.folder, address).absolute())


def _is_over(ended: Ended, losses: Counter[str], folder: Path) -> bool:
    """Whether a job's work is done; False if it must run again since its machine was lost."""
    if ended.code == 0:
        return True
    losses[ended.name] += ended.code is None
    if ended.code is None and losses[ended.name] < MOST_LOSSES:
        return False
    why = why_it_ended(ended.code, _log(folder, ended.name))
    raise DetrofitError(f"the local training of {ended.name} failed: {why}")


def _log(folder: Path, address: str) -> Path:
    return folder / "logs" / f"{address}.log"
