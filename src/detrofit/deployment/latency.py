"""How long model files take from a picture to detections, measured side by side; needs the base install alone."""

from __future__ import annotations

import csv
import io
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from detrofit.deployment.turns import FEWEST, Spread, spread, take_turns
from detrofit.errors import DetrofitError
from detrofit.pictures import PictureSource
from detrofit.runtime.backends import Backend
from detrofit.runtime.detector import Detector
from detrofit.version import __version__

STEPS = ("pre", "model", "post", "total")


@dataclass(frozen=True)
class FileLatency:
    """How long one file takes.

    Attributes:
        input_size: height and width in pixels.
        open_ms: opening the file and the first picture, once.
        steps: pre (decode and resize), model, post (boxes in pixels of the picture) and total, for one picture.
        ratio: total time over that of the first file, of the same rounds; the percentile is the ratio's own.
        pictures_per_second: from the median.
    """

    file: str
    megabytes: float
    input_size: tuple[int, int]
    open_ms: float
    steps: dict[str, Spread]
    ratio: Spread
    pictures_per_second: float


@dataclass(frozen=True)
class Benchmark:
    """All files of one measurement, with the machine that it was made on."""

    rounds: int
    machine: dict[str, Any]
    files: list[FileLatency]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_csv(self) -> str:
        rows = [
            {"file": each.file, "megabytes": each.megabytes, "open_ms": each.open_ms}
            | {f"{step}_{name}": value for step in STEPS for name, value in asdict(each.steps[step]).items()}
            | {f"ratio_{name}": value for name, value in asdict(each.ratio).items()}
            for each in self.files
        ]
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


def measure(files: Sequence[Path], picture: PictureSource, rounds: int = 50, *, device: str | None = None) -> Benchmark:
    """Time all files on one picture, in turns, so that whatever else the machine does hits them alike.

    Raises DetrofitError for files that cannot be run, or fewer than six rounds, which give no interval.
    """
    if rounds < FEWEST:
        raise DetrofitError(f"{rounds} rounds give no interval; give {FEWEST} or more")
    timers = [_Timer(file, picture, device) for file in files]
    samples = take_turns([partial(timer.run, picture) for timer in timers], rounds)
    first = samples[:, 0, -1]
    latencies = [_latency(timer, samples[:, place], first) for place, timer in enumerate(timers)]
    return Benchmark(rounds, describe_machine(), latencies)


def describe_machine() -> dict[str, Any]:
    """The processor, the cores that this process may use, and the versions that matter."""
    import onnxruntime

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": _processor(),
        "cores": usable,
        "system": platform.platform(),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "detrofit": __version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:  # not on Linux
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


class _TimedBackend:
    """A backend that notes when it was called and when it answered."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.class_names, self.category_ids = backend.class_names, backend.category_ids
        self.input_size, self.threshold = backend.input_size, backend.threshold
        self.max_detections = backend.max_detections
        self.called = self.answered = 0.0

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self.called = time.perf_counter()
        found = self.backend(images)
        self.answered = time.perf_counter()
        return found


class _Timer:
    """One file, opened and run once."""

    def __init__(self, file: Path, picture: PictureSource, device: str | None) -> None:
        started = time.perf_counter()
        self.file = file
        self.detector = Detector(file, device=device)
        self.backend = _TimedBackend(self.detector.backend)
        self.detector.backend = self.backend
        self.detector(picture)
        self.open_ms = (time.perf_counter() - started) * 1e3

    def run(self, picture: PictureSource) -> tuple[float, float, float, float]:
        """Milliseconds of each of `STEPS`."""
        started = time.perf_counter()
        self.detector(picture)
        ended = time.perf_counter()
        called, answered = self.backend.called, self.backend.answered
        pre, model, post = called - started, answered - called, ended - answered
        return pre * 1e3, model * 1e3, post * 1e3, (ended - started) * 1e3


def _latency(timer: _Timer, samples: np.ndarray, first: np.ndarray) -> FileLatency:
    steps = {step: spread(samples[:, place]) for place, step in enumerate(STEPS)}
    weights = timer.file.with_suffix(".bin")
    size = timer.file.stat().st_size
    if timer.file.suffix.lower() == ".xml" and weights.exists():
        size += weights.stat().st_size
    return FileLatency(
        file=str(timer.file),
        megabytes=round(size / 1e6, 2),
        input_size=timer.backend.input_size,
        open_ms=timer.open_ms,
        steps=steps,
        ratio=spread(samples[:, -1] / first),
        pictures_per_second=1e3 / steps["total"].median,
    )
