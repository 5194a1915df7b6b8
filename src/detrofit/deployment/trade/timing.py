"""How long each point takes: exported and timed here, or read from a `bench.json` that another device made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from detrofit.deployment.bench_files import read_record, read_totals, stem_of
from detrofit.deployment.export import SUFFIXES, export_file
from detrofit.deployment.latency import FileLatency, measure
from detrofit.deployment.trade.points import Point, parse_stem
from detrofit.errors import DetrofitError
from detrofit.model.detector import RTDETR
from detrofit.pictures import PictureSource
from detrofit.weights.model_file import ModelInfo, save_model
from detrofit.weights.truncate import truncated

TradeFormat = Literal["torch", "onnx", "openvino"]
FORMATS: dict[str, TradeFormat] = {"torch": "torch", "onnxruntime": "onnx", "openvino": "openvino"}  # by runtime
GROUP = 4  # files that are open at once, the model as trained among them


@dataclass(frozen=True)
class PointLatency:
    """Milliseconds from a picture (a file, or in memory) to boxes: the median with its 95 % interval."""

    milliseconds: float
    low: float
    high: float


def write_point(
    folder: Path, model: RTDETR, info: ModelInfo, point: Point, format_: TradeFormat, plugins: Iterable[Path] = ()
) -> Path:
    """The model at a point as a file named after it, exported where the format says so.

    Raises DetrofitError where the exported file disagrees with the model.
    """
    file = folder / f"{point.stem}.safetensors"
    shorter = truncated(model, num_queries=point.num_queries, decoder_layers=point.decoder_layers)
    save_model(file, shorter, replace(info, input_size=point.size))
    if format_ == "torch":
        return file
    exported = export_file(file, format_, out=file.with_suffix(SUFFIXES[format_]), plugins=list(plugins))
    file.unlink()
    return exported.file


def time_points(
    files: Sequence[tuple[Point, Path]],
    picture: PictureSource | None,
    rounds: int,
    device: str | None,
    advance: Callable[[int], None] = lambda done: None,
) -> tuple[dict[Point, PointLatency], dict[str, Any]]:
    """Time each point's file in turns with the first one, which is in every group; also the machine's description.

    A point's time is its ratio to the first file, of the same rounds, times the first one's median over all groups:
    what else the machine did in the meantime hits both. The picture is as `measure_subjects` takes it.
    """
    (first, reference), *others = files
    groups = [others[start : start + GROUP - 1] for start in range(0, len(others), GROUP - 1)] or [[]]
    ratios: dict[Point, FileLatency] = {}
    medians: list[float] = []
    machine: dict[str, Any] = {}
    for group in groups:
        benchmark = measure([reference, *(file for _, file in group)], picture, rounds, device=device)
        machine = benchmark.machine
        medians.append(benchmark.files[0].steps["total"].median)
        for (point, _), latency in zip(group, benchmark.files[1:]):
            ratios[point] = latency
        alone = benchmark.files[0].steps["total"]
        advance(len(group))
    median = float(np.median(medians))
    spread = (alone.low / alone.median, alone.high / alone.median)
    found = {first: PointLatency(median, median * spread[0], median * spread[1])}
    for point, latency in ratios.items():
        ratio = latency.ratio
        found[point] = PointLatency(median * ratio.median, median * ratio.low, median * ratio.high)
    return found, machine


@dataclass(frozen=True)
class Bench:
    """Times of points from another device: what was timed there, and the machine."""

    latencies: dict[Point, PointLatency]
    format: TradeFormat
    machine: dict[str, Any]


def read_bench(file: Path) -> Bench:
    """The points' times in a `bench.json`, whose files are named after their points.

    Raises DetrofitError as `read_totals` does, and for a file that names no point, has one twice, or times some of them
    with another runtime.
    """
    totals, machine = read_totals(file)
    stems: dict[Point, str] = {}
    for stem in totals:
        point = parse_stem(stem)
        if point in stems:
            raise DetrofitError(f"{file} has times of '{stems[point]}' and '{stem}', one point; leave one of them out")
        if point is not None:
            stems[point] = stem
    if not stems:
        raise DetrofitError(
            f"{file} times no file that is named after a point, as in 320x320-q100-l2.onnx; "
            "`detrofit trade --keep` writes these"
        )
    latencies = {point: PointLatency(*totals[stem]) for point, stem in stems.items()}
    return Bench(latencies, _format_of(file, set(stems.values())), machine)


def _format_of(file: Path, stems: set[str]) -> TradeFormat:
    """What a record's files of those stems are, by the runtime that timed them."""
    runtimes = {str(row.get("runtime")) for row in read_record(file)["files"] if stem_of(row) in stems}
    if len(runtimes) > 1:
        raise DetrofitError(f"{file} times points with {' and '.join(sorted(runtimes))}; time them with one runtime")
    (runtime,) = runtimes
    if runtime not in FORMATS:
        raise DetrofitError(f"{file} does not tell with which runtime its files were timed; make it anew")
    return FORMATS[runtime]
