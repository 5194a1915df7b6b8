"""What each candidate costs: latency of the whole exported model against the teacher's, parameters, operations."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detrofit.deployment.latency import Spread, describe_machine, measure
from detrofit.errors import DetrofitError
from detrofit.grafting.library import KEEP, trained_student
from detrofit.grafting.training import States
from detrofit.grafting.workshop import Runtime, Workshop, progress_bar
from detrofit.model.costs import count_flops, count_parameters
from detrofit.model.detector import RTDETR
from detrofit.model.fuse import fuse
from detrofit.weights.model_file import save_model

FILE = "costs.json"
SUFFIXES: dict[Runtime, str] = {"openvino": ".xml", "onnxruntime": ".onnx", "torch": ".safetensors"}
TOGETHER = 8  # models timed in turns at a time, the teacher always among them


@dataclass(frozen=True)
class Cost:
    """What a model costs; latency in milliseconds from a picture in memory to detections, batch 1, with 95 % interval.

    `ratio` is its latency over the teacher's, paired by rounds, also with an interval; `latency` is that times the
    teacher's median over all that was timed, so that models of different rounds can be compared.
    """

    latency: float
    latency_low: float
    latency_high: float
    ratio: float
    ratio_low: float
    ratio_high: float
    parameters: int
    flops: int


def cost_library(workshop: Workshop, states: States) -> dict[str, Cost]:
    """The cost of the teacher (under "keep") and of each candidate alone in it, by key."""
    makers: dict[str, Callable[[], RTDETR]] = {KEEP: lambda: workshop.teacher}
    for slot in workshop.slots:
        for candidate in slot.candidates:
            makers[candidate.key] = lambda each=candidate: trained_student(workshop.teacher, [each], states)  # type: ignore[misc]
    known = workshop.record(FILE)
    if known and workshop.settings.bench is None and all(key in known["costs"] for key in makers):
        return {key: Cost(**known["costs"][key]) for key in makers}
    files, counts = _export_all(workshop, makers)
    bench = workshop.settings.bench
    times = _bench_times(bench, files) if bench else _measured_times(files, workshop)
    costs = {key: Cost(*times[key], *counts[key]) for key in makers}
    machine = describe_machine() if bench is None else json.loads(bench.read_text("utf-8"))["machine"]
    workshop.keep(FILE, {"machine": machine, "costs": {key: asdict(cost) for key, cost in costs.items()}})
    return costs


def cost_models(workshop: Workshop, models: Mapping[str, RTDETR]) -> dict[str, Cost]:
    """The cost of assembled models by name, timed in turns with the teacher, which comes under "keep"."""
    makers: dict[str, Callable[[], RTDETR]] = {KEEP: lambda: workshop.teacher}
    makers |= {name: lambda each=model: each for name, model in models.items()}  # type: ignore[misc]
    files, counts = _export_all(workshop, makers)
    times = _measured_times(files, workshop)
    return {key: Cost(*times[key], *counts[key]) for key in makers}


def _export_all(
    workshop: Workshop, makers: Mapping[str, Callable[[], RTDETR]]
) -> tuple[dict[str, Path], dict[str, tuple[int, int]]]:
    """Exported files, and parameters and operations, by key. What is there from before is not written again."""
    files: dict[str, Path] = {}
    counts: dict[str, tuple[int, int]] = {}
    with progress_bar("exporting", len(makers)) as advance:
        for key, make in makers.items():
            model = copy.deepcopy(make()).cpu().eval()
            files[key] = exported(workshop, key, model)
            counts[key] = count_parameters(fuse(model)), count_flops(copy.deepcopy(model).to("meta"), workshop.size)
            advance()
    return files, counts


def exported(workshop: Workshop, key: str, model: RTDETR) -> Path:
    """The model's file for the runtime, in the folder `exports`."""
    runtime = workshop.settings.runtime
    target = workshop.folder / "exports" / f"{key}{SUFFIXES[runtime]}"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    if runtime == "torch":
        save_model(target, model, workshop.info)
        return target
    from detrofit.deployment.onnx import ExportOptions, write_onnx

    onnx_file = target.with_name(f"{key}.onnx")
    write_onnx(onnx_file, model, workshop.info, ExportOptions(size=workshop.size))
    if runtime == "openvino":
        from detrofit.deployment.openvino import write_openvino

        partial = target.with_name(f"{key}.partial.xml")
        write_openvino(partial, onnx_file)
        partial.with_suffix(".bin").replace(target.with_name(f"{key}.bin"))
        partial.replace(target)  # what names the others comes last
        onnx_file.unlink()
    return target


Times = tuple[float, float, float, float, float, float]


def _measured_times(files: Mapping[str, Path], workshop: Workshop) -> dict[str, Times]:
    """Medians with intervals, timed in groups, in each of which the teacher takes its turn."""
    height, width = workshop.size
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    others = [key for key in files if key != KEEP]
    found: dict[str, Spread] = {}
    teacher: list[Any] = []
    with progress_bar(f"timing in {workshop.settings.runtime}", len(others)) as advance:
        for start in range(0, max(len(others), 1), TOGETHER):
            group = others[start : start + TOGETHER]
            result = measure([files[KEEP], *(files[key] for key in group)], picture, workshop.settings.rounds)
            teacher.append(result.files[0].steps["total"])
            for key, each in zip(group, result.files[1:]):
                found[key] = each.ratio
                advance()
    reference = float(np.median([base.median for base in teacher]))
    low, high = (float(np.median([getattr(base, name) for base in teacher])) for name in ("low", "high"))
    times: dict[str, Times] = {KEEP: (reference, low, high, 1.0, 1.0, 1.0)}
    for key, ratio in found.items():
        shares = ratio.median, ratio.low, ratio.high
        times[key] = reference * shares[0], reference * shares[1], reference * shares[2], *shares
    return times


def _bench_times(bench: Path, files: Mapping[str, Path]) -> dict[str, Times]:
    """The times of a device, from a file of `detrofit bench` over the files of `exports`."""
    try:
        content = json.loads(bench.read_text("utf-8"))
        steps = {Path(str(each["file"]).replace("\\", "/")).stem: each["steps"]["total"] for each in content["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        raise DetrofitError(f"{bench} is no file of `detrofit bench --out`; make it anew") from None
    missing = [file.name for file in files.values() if file.stem not in steps]
    if missing:
        folder = next(iter(files.values())).parent
        raise DetrofitError(
            f"{bench} lacks {len(missing)} of the models, first '{missing[0]}': time all files of {folder} on the "
            "device with `detrofit bench`"
        )
    of_teacher = steps[files[KEEP].stem]
    return {key: _bench_times_of(steps[file.stem], of_teacher) for key, file in files.items()}


def _bench_times_of(times: Mapping[str, float], teacher: Mapping[str, float]) -> Times:
    """Rounds are not paired in a bench file, so that the ratio's interval is from both medians', added in squares."""
    ratio = times["median"] / teacher["median"]
    low, high = (
        ratio * math.hypot(times[end] / times["median"] - 1, teacher[end] / teacher["median"] - 1)
        for end in ("low", "high")
    )
    return times["median"], times["low"], times["high"], ratio, ratio - low, ratio + high
