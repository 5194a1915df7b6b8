"""Accuracy and latency of a trained model over input size, queries and decoder layers, and the best within a budget."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from detrofit.data.index import DetectionIndex
from detrofit.data.open import open_dataset
from detrofit.deployment.export import SUFFIXES, export_file
from detrofit.deployment.latency import timing_device
from detrofit.deployment.trade.accuracy import score_points
from detrofit.deployment.trade.choice import TradePoint, best_within, pareto_front
from detrofit.deployment.trade.points import Knobs, Point, as_trained, grid
from detrofit.deployment.trade.timing import Bench, PointLatency, TradeFormat, read_bench, time_points, write_point
from detrofit.errors import DetrofitError
from detrofit.runtime.backends import open_backend
from detrofit.training.devices import Devices
from detrofit.training.prepare import check_objects
from detrofit.training.run_folder import BEST
from detrofit.training.score import check_classes
from detrofit.training.validate import validate
from detrofit.training.workers import default_workers
from detrofit.weights.model_file import load_model, read_info, save_model
from detrofit.weights.truncate import truncated

ALL_KNOBS = Knobs()
CHOSEN = "traded.safetensors"
AP_TOLERANCE = 0.001  # of the written file against its point: the order of sums on a GPU may differ


@dataclass(frozen=True)
class TradeSettings:
    """How to measure.

    Attributes:
        knobs: the values to try.
        format: what is timed; None for what `bench` is of, or else onnx.
        device: where accuracy is measured, and where the format is timed as far as its runtime has it (see
            `timing_device`).
        bench: a record of `detrofit bench` made on another device; the names of its files are the points.
        rounds: how often each point is timed, at least 6.
        keep: leave the timed files in the folder `points` of the results, to time them elsewhere.
        split: decides; the test split is refused.
        batch, workers: pictures at a time, and processes that load them.
        plugins: files with parts of one's own.
        from_file: time the file of the split's first picture, decoding and resizing included; else a picture in memory
            of each point's own size.
    """

    knobs: Knobs = ALL_KNOBS
    format: TradeFormat | None = None
    device: str = "auto"
    bench: Path | None = None
    rounds: int = 20
    keep: bool = False
    split: str = "val"
    batch: int = 8
    workers: int | None = None
    plugins: Iterable[Path] = ()
    from_file: bool = True


@dataclass(frozen=True)
class Chosen:
    """The most accurate point within a budget.

    Attributes:
        budget: milliseconds.
        file: the model file at that point; `ap` is its score, measured anew.
        exported: the same in the format that was timed, None for torch; `exported_ap` is the AP of that file, None
            where the deciding split is not `val`.
    """

    budget: float
    point: TradePoint
    file: Path
    ap: float
    exported: Path | None = None
    exported_ap: float | None = None


@dataclass(frozen=True)
class Trade:
    """What was measured.

    Attributes:
        file, data, split: names of the model file and the data, and the split that decides.
        format: of the timed files.
        machine: description of what timed them.
        points: all points; that of the model as trained is the first, unless a record from elsewhere lacks it.
        trained: the point of the model as trained.
    """

    file: str
    data: str
    split: str
    format: str
    machine: dict[str, Any]
    points: list[TradePoint]
    trained: Point
    chosen: Chosen | None = None

    @property
    def front(self) -> list[TradePoint]:
        """The points that no other beats, fastest first."""
        return pareto_front(self.points)


DEFAULTS = TradeSettings()


def trade(
    file: Path,
    data: Path,
    out: Path,
    settings: TradeSettings = DEFAULTS,
    *,
    budget: float | None = None,
    keep: Callable[[Trade], None] = lambda measured: None,
) -> Trade:
    """Measure a model file (or a run folder's best one) at every point, without training anything.

    With a `budget` in milliseconds the most accurate point within it is written to the folder `out`, as a model file
    and exported, and both are scored once more. `keep` is given what was measured before that. Raises DetrofitError
    where file, data and settings do not go together, or nothing fits into the budget.
    """
    file = file / BEST if file.is_dir() else file
    session = _Session(file, data, out, settings)
    with Progress(console=Console(stderr=True)) as progress:
        session.check_timing(progress)
        scores = session.score(progress)
        known, failures, machine = session.time(progress)
    points = [TradePoint(point, scores[point], known.get(point), failures.get(point)) for point in session.points]
    measured = Trade(file.name, data.name, settings.split, session.format, machine, points, session.trained)
    keep(measured)
    return measured if budget is None else replace(measured, chosen=session.write_best(points, budget))


class _Session:
    """A model, the data that decides, and the points to measure."""

    def __init__(self, file: Path, data: Path, out: Path, settings: TradeSettings) -> None:
        self.settings, self.data, self.out = settings, data, out
        self.plugins = list(settings.plugins)
        self.info = read_info(file)
        self.index = _deciding_split(data, settings.split)
        check_classes(self.info, self.index, file)
        self.bench = read_bench(settings.bench) if settings.bench else None
        self.format = _timed_format(settings.format, self.bench)
        self.timed_on = timing_device(settings.device, self.format)
        self.devices = Devices(settings.device)
        self.model = self.devices.place(load_model(file, plugins=self.plugins))
        self.trained = as_trained(self.model, self.info)
        self.points = self._points()

    def _points(self) -> list[Point]:
        if self.bench is None:
            return grid(self.model, self.info, self.settings.knobs)
        if self.settings.knobs != ALL_KNOBS:
            raise DetrofitError("--bench says which points there are; leave the knobs out")
        known = list(self.bench.latencies)
        every = Knobs(*(sorted({point[knob] for point in known}) for knob in range(3)))  # type: ignore[arg-type]
        return [point for point in grid(self.model, self.info, every) if point in known]

    def check_timing(self, progress: Progress) -> None:
        """DetrofitError where the model as trained cannot be exported, or not be opened where it is to be timed."""
        if self.bench is None:
            task = progress.add_task(f"trying {self.format}", total=1)
            with tempfile.TemporaryDirectory(prefix="detrofit-trade-") as folder:
                file = write_point(Path(folder), self.model, self.info, self.trained, self.format, self.plugins)
                open_backend(file, self.timed_on, self.plugins)
            progress.advance(task)

    def score(self, progress: Progress) -> dict[Point, dict[str, float]]:
        """COCO's summary of each point."""
        sizes = len({point.size for point in self.points})
        task = progress.add_task(f"scoring {len(self.points)} points", total=sizes * len(self.index))
        return score_points(
            self.model,
            self.index,
            self.points,
            self.devices,
            batch=self.settings.batch,
            workers=default_workers(self.settings.workers),
            advance=lambda done: progress.advance(task, done),
        )

    def time(self, progress: Progress) -> tuple[dict[Point, PointLatency], dict[Point, str], dict[str, Any]]:
        """Each point's latency, why some have none, and the machine that they were timed on."""
        if self.bench is not None:
            return self.bench.latencies, {}, self.bench.machine
        with ExitStack() as stack:
            folder = self.out / "points"
            if not self.settings.keep:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="detrofit-trade-")))
            files, failures = self._write_points(folder, progress)
            task = progress.add_task("timing", total=len(files) - 1)
            picture = self.index.path(0) if self.settings.from_file else None
            known, machine = time_points(
                files, picture, self.settings.rounds, self.timed_on, lambda done: progress.advance(task, done)
            )
        return known, failures, machine

    def _write_points(self, folder: Path, progress: Progress) -> tuple[list[tuple[Point, Path]], dict[Point, str]]:
        """The file of each point, and why some points have none; the first must have one."""
        task = progress.add_task(f"writing {self.format} files", total=len(self.points))
        files, failures = [], {}
        for point in self.points:
            try:
                file = write_point(folder, self.model, self.info, point, self.format, self.plugins)
                files.append((point, file))
            except DetrofitError as error:
                if not files:
                    raise
                failures[point] = str(error)
            progress.advance(task)
        return files, failures

    def write_best(self, points: list[TradePoint], budget: float) -> Chosen:
        """Write the most accurate point within the budget, and hold the files against what was measured."""
        best = best_within(points, budget)
        file = self.out / CHOSEN
        queries, layers = best.point.num_queries, best.point.decoder_layers
        shorter = truncated(self.model, num_queries=queries, decoder_layers=layers)
        save_model(file, shorter, replace(self.info, input_size=best.point.size))
        ap = self._rewrite_scored(file)
        if abs(ap - best.ap) > AP_TOLERANCE:
            raise DetrofitError(f"{file} has AP {ap:.4f} where its point had {best.ap:.4f}; please report this model")
        if self.format == "torch":
            return Chosen(budget, best, file, ap)
        target = file.with_suffix(SUFFIXES[self.format])
        scored_on = self.data if self.settings.split == "val" else None
        exported = export_file(file, self.format, out=target, data=scored_on, plugins=self.plugins)
        return Chosen(budget, best, file, ap, exported.file, exported.parity.ap_file)

    def _rewrite_scored(self, file: Path) -> float:
        """Score a written file, and note AP and the best threshold in it."""
        model, info = self.devices.place(load_model(file, plugins=self.plugins)), read_info(file)
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task(f"scoring {file.name}", total=len(self.index))
            evaluation, _ = validate(
                model,
                self.index,
                info.input_size,
                self.devices,
                batch=self.settings.batch,
                workers=default_workers(self.settings.workers),
                max_detections=model.frame.max_detections,
                advance=lambda done: progress.advance(task, done),
            )
        summary = evaluation.summary
        scores = {f"val_{name}": summary[name] for name in ("AP", "AP50") if name in summary}
        threshold = summary.get("threshold", info.threshold)
        save_model(file, model, replace(info, threshold=threshold, trained={**info.trained, **scores}))
        return summary["AP"]


def _timed_format(asked: TradeFormat | None, bench: Bench | None) -> TradeFormat:
    if bench is None:
        return asked or "onnx"
    if asked not in (None, bench.format):
        raise DetrofitError(f"--bench has times of {bench.format} files; leave --format {asked} out")
    return bench.format


def _deciding_split(data: Path, split: str) -> DetectionIndex:
    if split == "test":
        raise DetrofitError("the test split decides nothing, or it could not judge any more; choose on --split val")
    index = open_dataset(data).split(split)
    check_objects(index, data)
    return index
