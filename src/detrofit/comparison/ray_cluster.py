"""Jobs on the nodes of a Ray cluster, which see the study's folder and the data under the same paths."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detrofit.comparison.executors import WORKER, Ended, thread_settings
from detrofit.comparison.lifeline import start_bound
from detrofit.errors import DetrofitError

CONNECT_SECONDS = 10.0
END_SECONDS = 60.0  # within which jobs that are ended save their state
POLL_SECONDS = 0.5


class RayCluster:
    """Jobs as Ray tasks, each with CPUs and a number (or a share) of GPUs to itself.

    Ray chooses the node. A task that is lost with its node is not Ray's to repeat but the study's, which knows more.

    Args:
        gpus: of each job; by default one where the cluster has any.
        address: as `ray.init` takes it: `auto`, `HOST:PORT`, or `ray://HOST:PORT` from a machine outside the cluster.
        worker: what Python is started with, before a job's file; by default a study's.

    Raises DetrofitError where no cluster answers, none of its nodes could hold a job, or nobody can have such GPUs.
    """

    def __init__(
        self, address: str, cpus: int = 1, gpus: float | None = None, worker: Sequence[str] | None = None
    ) -> None:
        import ray

        _check_gpus(gpus)
        _check_port(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, namespace="detrofit")
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            line = f"no Ray cluster answers at '{address}' ({reason}); `ray start --head` starts one"
            raise DetrofitError(line) from None
        has_gpus = any(node["Resources"].get("GPU", 0) >= 1 for node in ray.nodes() if node["Alive"])
        self.threads, self.cpus, self.worker = cpus, cpus, worker or WORKER
        self.gpus = float(has_gpus) if gpus is None else gpus
        self._task = ray.remote(max_retries=0, num_cpus=cpus, num_gpus=self.gpus)(_run_worker)
        self._running: dict[Any, str] = {}
        if not self.slots():
            ray.shutdown()
            raise DetrofitError(f"no node of the Ray cluster has {cpus} CPUs and {self.gpus:g} GPUs for a job")

    def slots(self) -> int:
        """How many jobs the nodes that are up now have room for."""
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return sum(self._room(node.get("CPU", 0), node.get("GPU", 0)) for node in nodes)

    def _room(self, cpus: float, gpus: float) -> int:
        by_cpus = int(cpus // self.cpus)
        return min(by_cpus, int(gpus / self.gpus)) if self.gpus else by_cpus

    def start(self, name: str, file: Path, log: Path) -> None:
        task = self._task.options(name=name)
        self._running[task.remote([*self.worker, str(file)], str(log), thread_settings(self.cpus))] = name

    def ended(self) -> list[Ended]:
        import ray

        waiting = list(self._running)
        ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0) if waiting else ([], [])
        return [Ended(self._running.pop(each), _exit_code(each)) for each in ready]

    def close(self) -> None:
        import ray

        running = list(self._running)
        for each in running:
            ray.cancel(each)
        if running:
            ray.wait(running, num_returns=len(running), timeout=END_SECONDS)
        self._running.clear()
        ray.shutdown()


def _check_gpus(gpus: float | None) -> None:
    """DetrofitError for a number of GPUs that Ray does not divide."""
    if gpus is not None and gpus > 1 and gpus != int(gpus):
        raise DetrofitError(f"--gpus {gpus:g}: a run has a share of one GPU, or a whole number of them")


def _check_port(address: str) -> None:
    """DetrofitError at once where nothing listens, which Ray would find out in minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        reason = error.strerror or error
        raise DetrofitError(f"no Ray cluster answers at '{address}' ({reason}); give the address of its head") from None


def _exit_code(finished: Any) -> int | None:
    """Of the worker's process; None where Ray lost the task."""
    import ray

    try:
        return int(ray.get(finished))
    except ray.exceptions.RayTaskError as error:
        raise DetrofitError(f"a node cannot start a job: {' '.join(str(error.cause).split())[:200]}") from None
    except ray.exceptions.RayError:
        return None


def _run_worker(arguments: list[str], log: str, environment: dict[str, str]) -> int:
    """On a node: the worker as a process of its own, as everywhere else; it ends with this task."""
    import detrofit

    paths = [str(Path(detrofit.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = start_bound(arguments, Path(log), {**environment, "PYTHONPATH": os.pathsep.join(paths)})
    try:
        while (code := process.poll()) is None:
            time.sleep(POLL_SECONDS)  # no wait(), which would keep Ray from raising KeyboardInterrupt here
        return code
    except KeyboardInterrupt:
        process.terminate()  # it saves its state
        process.wait()
        raise
