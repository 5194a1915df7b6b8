"""How long model files take from a picture to detections, measured side by side; needs the base install alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from detrofit.deployment.describe import size_of
from detrofit.deployment.fresh_process import FirstPicture, first_picture
from detrofit.deployment.machine import describe_machine
from detrofit.deployment.subjects import Subject
from detrofit.deployment.turns import FEWEST, WARM_UP, Spread, spread, take_turns
from detrofit.errors import DetrofitError
from detrofit.pictures import PictureSource
from detrofit.runtime.backends import Backend

FORMAT = 1  # of the JSON file, see docs/deploy.md
STEPS = ("pre", "model", "post", "total")
TOGETHER = 8  # files that are open at a time: a small device has no memory for a whole folder of them


@dataclass(frozen=True)
class FileLatency:
    """How long one file takes with one runtime; all times in milliseconds.

    Attributes:
        variant: what people call it.
        precision: float32, half or int8; what the file says, or what was asked for.
        device: where it ran.
        parameters, flops: of the network in deploy form for one picture; None where neither the file nor torch tells.
        input_size: height and width in pixels.
        open_ms: opening the file and the first picture, in a process that has done so before.
        cold_start_ms, peak_memory_mb: see `FirstPicture`; None where no new process was started.
        steps: pre (decode and resize), model, post (boxes in pixels of the picture) and total, for one batch.
        median, low, high, p90: of the total, as in `steps`.
        ratio: total time over that of the first file, of the same rounds; the percentile is the ratio's own.
        pictures_per_second: from the median.
    """

    file: str
    variant: str
    runtime: str
    precision: str
    device: str
    megabytes: float
    parameters: int | None
    flops: int | None
    input_size: tuple[int, int]
    open_ms: float
    cold_start_ms: float | None
    peak_memory_mb: float | None
    median: float
    low: float
    high: float
    p90: float
    pictures_per_second: float
    ratio: Spread
    steps: dict[str, Spread]


@dataclass(frozen=True)
class Benchmark:
    """All files of one measurement, with the machine that it was made on; `threads` None: as each runtime likes."""

    rounds: int
    warm_up: int
    batch: int
    threads: int | None
    machine: dict[str, Any]
    files: list[FileLatency]

    def to_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}


def timing_device(device: str, runtime: str) -> str | None:
    """Where a runtime is timed: on the device that was asked for, as far as it has that; None for its best."""
    return None if device == "auto" or (runtime != "torch" and device != "cpu") else device


def measure(
    files: Sequence[Path], picture: PictureSource | None, rounds: int = 50, *, device: str | None = None
) -> Benchmark:
    """Time model files with the runtime of each, in turns; see `measure_subjects`."""
    return measure_subjects([Subject(file.stem, file) for file in files], picture, rounds, device=device)


def measure_subjects(
    subjects: Sequence[Subject],
    picture: PictureSource | None,
    rounds: int = 50,
    *,
    batch: int = 1,
    device: str | None = None,
    threads: int | None = None,
    fresh_processes: int = 0,
) -> Benchmark:
    """Time all subjects in turns, so that whatever else the machine does hits them alike.

    More than `TOGETHER` are timed in groups, each with the first subject in it, which ratios are to.

    Args:
        picture: seen `batch` times at once; None for one in memory of each model's own input size, so that none has to
            resize it.
        device: as far as a runtime has it, see `timing_device`.
        threads: of each runtime; None for as many as it thinks best.
        fresh_processes: new processes to start for each, whose median cold start counts; then `picture` is the bytes of
            a file.

    Raises DetrofitError for files that cannot be run, or fewer than six rounds, which give no interval.
    """
    if rounds < FEWEST:
        raise DetrofitError(f"{rounds} rounds give no interval; give {FEWEST} or more")
    machine = describe_machine()
    firsts = [_first(each, picture, device, threads, fresh_processes) for each in subjects]
    (reference, *others), fewer = subjects, TOGETHER - 1
    groups = [others[start : start + fewer] for start in range(0, len(others), fewer)] or [[]]
    latencies: list[FileLatency] = []
    for group in groups:
        timers = [_Timer(each, picture, batch, device, threads) for each in (reference, *group)]
        samples = take_turns([timer.run for timer in timers], rounds)
        for place in range(bool(latencies), len(timers)):  # the first subject counts in the first group
            first = firsts[len(latencies)]
            latencies.append(_latency(timers[place], first, samples[:, place], samples[:, 0, -1]))
    return Benchmark(rounds, WARM_UP, batch, threads, machine, latencies)


def drawn_picture(size: tuple[int, int]) -> np.ndarray:
    """A picture of random numbers of that height and width, uint8 `[H,W,3]`."""
    return np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)


def _first(
    subject: Subject, picture: PictureSource | None, device: str | None, threads: int | None, processes: int
) -> FirstPicture | None:
    if not processes or not isinstance(picture, bytes):
        return None
    where = timing_device(device or "auto", subject.runtime)
    found = [first_picture(subject, picture, where, threads) for _ in range(processes)]
    return sorted(found, key=lambda each: each.cold_start_ms)[processes // 2]


class _TimedBackend:
    """A backend that notes when it was called and when it answered."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.class_names, self.category_ids = backend.class_names, backend.category_ids
        self.input_size, self.threshold = backend.input_size, backend.threshold
        self.max_detections, self.batch, self.device = backend.max_detections, backend.batch, backend.device
        self.called = self.answered = 0.0

    def __call__(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self.called = time.perf_counter()
        found = self.backend(pictures)
        self.answered = time.perf_counter()
        return found


class _Timer:
    """One subject, opened and run once."""

    def __init__(
        self, subject: Subject, picture: PictureSource | None, batch: int, device: str | None, threads: int | None
    ) -> None:
        started = time.perf_counter()
        self.subject = subject
        detector = subject.detector(timing_device(device or "auto", subject.runtime), threads)
        self.backend = detector.backend = _TimedBackend(detector.backend)
        opened = time.perf_counter() - started
        picture = drawn_picture(self.backend.input_size) if picture is None else picture
        started = time.perf_counter()
        self._detect, self.batch = partial(detector, [picture] * batch, batch=batch), batch
        self._detect()
        self.open_ms = (opened + time.perf_counter() - started) * 1e3

    def run(self) -> tuple[float, float, float, float]:
        """Milliseconds of each of `STEPS`."""
        started = time.perf_counter()
        self._detect()
        ended = time.perf_counter()
        called, answered = self.backend.called, self.backend.answered
        pre, model, post = called - started, answered - called, ended - answered
        return pre * 1e3, model * 1e3, post * 1e3, (ended - started) * 1e3


def _latency(timer: _Timer, first: FirstPicture | None, samples: np.ndarray, base: np.ndarray) -> FileLatency:
    subject, backend = timer.subject, timer.backend.backend
    steps = {step: spread(samples[:, place]) for place, step in enumerate(STEPS)}
    total = steps["total"]
    parameters, flops = _size_of(backend)
    return FileLatency(
        file=str(subject.file),
        variant=subject.variant,
        runtime=subject.runtime,
        precision=_precision_of(subject, backend),
        device=backend.device,
        megabytes=round(size_of(subject.file) / 1e6, 2),
        parameters=parameters,
        flops=flops,
        input_size=(backend.input_size[0], backend.input_size[1]),
        open_ms=timer.open_ms,
        cold_start_ms=first.cold_start_ms if first else None,
        peak_memory_mb=first.peak_memory_mb if first else None,
        **asdict(total),
        pictures_per_second=1e3 * timer.batch / total.median,
        ratio=spread(samples[:, -1] / base),
        steps=steps,
    )


def _precision_of(subject: Subject, backend: Any) -> str:
    own = backend.description.precision if hasattr(backend, "description") else "float32"
    return "half" if subject.half and own == "float32" else own


def _size_of(backend: Any) -> tuple[int | None, int | None]:
    """Parameters and operations: exported files tell, of a model in torch they are counted."""
    if hasattr(backend, "description"):
        return backend.description.parameters, backend.description.flops
    parameters, flops = backend.costs()
    return parameters, flops
