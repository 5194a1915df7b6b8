"""What each candidate costs: latency of the whole exported model against the teacher's, parameters, operations."""

from __future__ import annotations

import copy
import math
import shutil
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from detrofit.deployment.bench_files import TimedFile, read_timed
from detrofit.deployment.latency import TOGETHER, describe_machine, measure, timing_device
from detrofit.distillation.features import GIGABYTE
from detrofit.errors import DetrofitError
from detrofit.grafting.library import KEEP, trained_student
from detrofit.grafting.swap_sets import random_sets
from detrofit.grafting.training import States
from detrofit.grafting.workshop import Runtime, Workshop, progress_bar
from detrofit.model.costs import count_flops, count_parameters
from detrofit.model.detector import RTDETR
from detrofit.model.fuse import fuse
from detrofit.weights.model_file import load_model, save_model

LIBRARY, ASSEMBLED, COUNTS = "costs.json", "assemblies/costs.json", "counts.json"
SUFFIXES: dict[Runtime, str] = {"openvino": ".xml", "onnxruntime": ".onnx", "torch": ".safetensors"}
UNSTEADY = 1.25  # times its fastest group's latency that the original may take in another
AT_A_TIME = TOGETHER - 1  # models timed in turns, beside the teacher

Maker = Callable[[], RTDETR]
Three = tuple[float, float, float]  # a median with its 95 % interval
Times = tuple[float, float, float, float, float, float]  # a latency and a ratio, so


@dataclass(frozen=True)
class Cost:
    """What a model costs; latency in milliseconds from a picture in memory, of the model's input size, to detections,
    batch 1, with 95 % interval.

    `ratio` is its latency over the teacher's, paired by rounds, also with an interval; `latency` is that times the
    teacher's median over all groups of the library, so that models of different rounds can be compared. Parameters and
    operations are those of the deploy form.
    """

    latency: float
    latency_low: float
    latency_high: float
    ratio: float
    ratio_low: float
    ratio_high: float
    parameters: int
    flops: int


@dataclass(frozen=True)
class LibraryCosts:
    """What was measured of the library.

    Attributes:
        single: the cost of the teacher (under "keep") and of each candidate alone in it, by key.
        sets: the cost of random sets of candidates together, by their keys.
    """

    single: dict[str, Cost]
    sets: dict[tuple[str, ...], Cost]


def cost_library(workshop: Workshop, states: States) -> LibraryCosts:
    """Export and time the teacher, each candidate alone in it, and random sets of them.

    Of a device, whose times are in a bench file, sets that the file lacks are left out.
    """
    alone = {candidate.key: (candidate,) for slot in workshop.slots for candidate in slot.candidates}
    sets = random_sets(workshop.slots, workshop.settings.seed)
    makers: dict[str, Maker] = {KEEP: lambda: workshop.teacher}
    makers |= {
        name: partial(trained_student, workshop.teacher, chosen, states) for name, chosen in (alone | sets).items()
    }
    files, counts = _export_all(workshop, makers, _timed_already(workshop, LIBRARY, makers))
    if workshop.settings.bench is not None:
        known = read_timed(workshop.settings.bench)[0]
        wanted = {key: file for key, file in files.items() if key not in sets or file.stem in known}
        times = _bench_times(workshop, known, wanted, counts)
    else:
        record = _timed(workshop, files, LIBRARY)
        median, low, high = (float(np.median(column)) for column in zip(*record["teacher"]))
        times = {KEEP: (median, low, high, 1.0, 1.0, 1.0)}
        times |= {key: _times(median, ratios) for key, ratios in record["ratios"].items()}
    costs = {key: Cost(*each, *counts[key]) for key, each in times.items()}
    together = {tuple(each.key for each in chosen): costs[name] for name, chosen in sets.items() if name in costs}
    return LibraryCosts({key: costs[key] for key in (KEEP, *alone)}, together)


def cost_models(
    workshop: Workshop, models: Mapping[str, Path], costs: Mapping[str, Cost], keys: Mapping[str, Sequence[str]]
) -> tuple[dict[str, Cost], set[str]]:
    """The cost of assembled models by name, timed in turns with the teacher; and the names of those that were timed.

    Of a device, whose times are in a bench file, models that the file lacks cost what their swaps add up to.

    Args:
        models: their files.
        costs: of the library.
        keys: what each is made of.
    """
    load = partial(load_model, plugins=workshop.settings.plugins)
    makers: dict[str, Maker] = {KEEP: lambda: workshop.teacher}
    makers |= {name: partial(load, file) for name, file in models.items()}
    files, counts = _export_all(workshop, makers, _timed_already(workshop, ASSEMBLED, makers))
    ratios: dict[str, Three]
    timed = set(models)
    if workshop.settings.bench is None:
        ratios = _timed(workshop, files, ASSEMBLED)["ratios"] if models else {}
    else:
        known = read_timed(workshop.settings.bench)[0]
        timed = {name for name in models if files[name].stem in known}
        times = _bench_times(workshop, known, {key: files[key] for key in (KEEP, *timed)}, counts)
        ratios = {name: times[name][3:] if name in timed else _sum_of_swaps(costs, keys[name]) for name in models}
    return {name: Cost(*_times(costs[KEEP].latency, ratios[name]), *counts[name]) for name in models}, timed


def timing_machine(workshop: Workshop) -> dict[str, Any]:
    """What the library was timed on."""
    bench = workshop.settings.bench
    machine: dict[str, Any] = workshop.record(LIBRARY)["machine"] if bench is None else read_timed(bench)[1]
    return machine


def timed_here(workshop: Workshop, record: Mapping[str, Any]) -> bool:
    """Whether a record's times are of this machine as it now is, load aside, and were made as is asked for."""
    then = record.get("machine", {})
    same = all(then.get(key) == value for key, value in describe_machine().items() if key != "load")
    return same and all(record.get(key) == value for key, value in timing(workshop).items())


def timed_on(workshop: Workshop) -> str | None:
    """The device that the runtime is timed on; None for its best."""
    return timing_device(workshop.settings.device, workshop.settings.runtime)


def timing(workshop: Workshop) -> dict[str, Any]:
    """How models are timed, as records of times hold it."""
    settings = workshop.settings
    return {"runtime": settings.runtime, "device": timed_on(workshop), "rounds": settings.rounds}


def _export_all(
    workshop: Workshop, makers: Mapping[str, Maker], timed: Container[str] = ()
) -> tuple[dict[str, Path], dict[str, tuple[int, int]]]:
    """Exported files, and parameters and operations, by key. What is there from before is not made again, nor what is
    `timed` and needs no file any more."""
    files = {key: workshop.folder / "exports" / f"{key}{SUFFIXES[workshop.settings.runtime]}" for key in makers}
    counts = workshop.record(COUNTS)
    missing = [key for key, file in files.items() if key not in counts or not (key in timed or file.exists())]
    _check_disk(workshop, len(missing))
    with progress_bar("exporting", len(makers), len(makers) - len(missing)) as advance:
        for key in missing:
            model = copy.deepcopy(makers[key]()).cpu().eval()
            _export(workshop, files[key], model)
            deployed = fuse(model).to("meta")
            counts[key] = count_parameters(deployed), count_flops(deployed, workshop.size)
            workshop.keep(COUNTS, counts)
            advance()
    return files, {key: counts[key] for key in makers}


def _check_disk(workshop: Workshop, number: int) -> None:
    """DetrofitError where the disk cannot hold so many exported files, of which each is about the teacher's size."""
    needed, free = number * workshop.file.stat().st_size, shutil.disk_usage(workshop.folder).free
    if needed > free:
        raise DetrofitError(
            f"{number} exported models need {needed / GIGABYTE:.2f} GB in {workshop.folder}, where "
            f"{free / GIGABYTE:.2f} GB are free; free space, which goes on where this stopped, or choose another --out"
        )


def _export(workshop: Workshop, target: Path, model: RTDETR) -> None:
    """Write the model's file for the runtime, whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if workshop.settings.runtime == "torch":
        save_model(target, model, workshop.info)
        return
    from detrofit.deployment.onnx import ExportOptions, write_onnx

    # For OpenVINO it is only on the way; a file of that name may be what ONNX Runtime was timed with.
    onnx_file = (
        target if workshop.settings.runtime == "onnxruntime" else target.with_name(f"{target.stem}.partial.onnx")
    )
    write_onnx(onnx_file, model, workshop.info, ExportOptions(size=workshop.size))
    if workshop.settings.runtime == "openvino":
        from detrofit.deployment.openvino import write_openvino

        partial_file = target.with_name(f"{target.stem}.partial.xml")
        write_openvino(partial_file, onnx_file)
        partial_file.with_suffix(".bin").replace(target.with_name(f"{target.stem}.bin"))
        partial_file.replace(target)  # what names the others comes last
        onnx_file.unlink()


def _timed(workshop: Workshop, files: Mapping[str, Path], name: str) -> dict[str, Any]:
    """Times in groups, in each of which the teacher takes its turn; each group is kept in a JSON file of that name.

    It holds the machine, runtime, device and rounds (a record of others is begun anew), the teacher's median and
    interval in each group, and each other model's ratio to it.
    """
    settings, record = workshop.settings, _times_so_far(workshop, name)
    others = [key for key in files if key not in (KEEP, *record["ratios"])]
    with progress_bar(f"timing in {settings.runtime}", len(others)) as advance:
        for start in range(0, len(others), AT_A_TIME):
            group = others[start : start + AT_A_TIME]
            turns = [files[KEEP], *(files[key] for key in group)]
            teacher, *rest = measure(turns, None, settings.rounds, device=timed_on(workshop)).files
            record["teacher"].append([teacher.median, teacher.low, teacher.high])
            for key, each in zip(group, rest):
                record["ratios"][key] = [each.ratio.median, each.ratio.low, each.ratio.high]
                advance()
            workshop.keep(name, record)
    medians = [median for median, _, _ in record["teacher"]]
    if medians and max(medians) > UNSTEADY * min(medians):
        workshop.note(
            f"the original took {min(medians):.1f} to {max(medians):.1f} ms while it was timed: other work ran beside "
            f"it, or the machine changed its speed; for better times take {name} out of {workshop.folder} and go on "
            "when the machine is quiet"
        )
    return record


def _times_so_far(workshop: Workshop, name: str) -> dict[str, Any]:
    """A record of times of this machine, with those of before where they count."""
    record = workshop.record(name)
    if timed_here(workshop, record):
        return record
    return {"machine": describe_machine(), **timing(workshop), "teacher": [], "ratios": {}}


def _timed_already(workshop: Workshop, name: str, keys: Iterable[str]) -> set[str]:
    """Those of the models whose times are known, the teacher if all others' are; none where a device times them."""
    if workshop.settings.bench is not None:
        return set()
    known = set(_times_so_far(workshop, name)["ratios"])
    return known | ({KEEP} if known.issuperset(set(keys) - {KEEP}) else set())


def _times(latency: float, ratio: Sequence[float]) -> Times:
    """Of a ratio to the teacher, which takes that latency."""
    median, low, high = ratio
    return latency * median, latency * low, latency * high, median, low, high


def _sum_of_swaps(costs: Mapping[str, Cost], keys: Sequence[str]) -> Three:
    """The ratio that single swaps add up to; the halves of the interval are added in squares."""
    chosen = [costs[key] for key in keys]
    ratio = 1 + sum(each.ratio - 1 for each in chosen)
    low = math.hypot(*(each.ratio - each.ratio_low for each in chosen))
    return ratio, ratio - low, ratio + math.hypot(*(each.ratio_high - each.ratio for each in chosen))


def _bench_times(
    workshop: Workshop,
    known: Mapping[str, TimedFile],
    files: Mapping[str, Path],
    counts: Mapping[str, tuple[int, int]],
) -> dict[str, Times]:
    """Latency and ratio, each with its interval, of what a device has timed of the files of `exports`.

    A record tells what each file takes of its first one's time, from the same rounds, so that a device that slows down
    between two groups does as much to both. Of the ratio of two such ratios the intervals are added in squares.
    """
    bench = workshop.settings.bench
    missing = [file.name for file in files.values() if file.stem not in known]
    if missing:
        folder = next(iter(files.values())).parent
        raise DetrofitError(
            f"{bench} lacks {len(missing)} of the models, first '{missing[0]}': time all files of {folder} on the "
            "device with `detrofit bench`"
        )
    for key, file in files.items():
        _check_timed(workshop, file, known[file.stem], counts[key][0])
    teacher = known[files[KEEP].stem]
    times: dict[str, Times] = {}
    for key, file in files.items():
        ratio = _quotient(known[file.stem].ratio, teacher.ratio) if key != KEEP else (1.0, 1.0, 1.0)
        times[key] = (*known[file.stem].total, *ratio)
    return times


def _check_timed(workshop: Workshop, file: Path, timed: TimedFile, parameters: int) -> None:
    """DetrofitError where a device has timed another file of the same name, or with another runtime."""
    bench, runtime = workshop.settings.bench, workshop.settings.runtime
    if timed.runtime != runtime:
        raise DetrofitError(f"{bench} has times of {timed.runtime}, not of {runtime}; give --runtime {timed.runtime}")
    if timed.input_size != workshop.size or timed.parameters != parameters:
        raise DetrofitError(
            f"{bench} has times of another '{file.name}' ({timed.parameters} parameters at {timed.input_size[0]},"
            f"{timed.input_size[1]}, here {parameters} at {workshop.size[0]},{workshop.size[1]}); time the files of "
            f"{file.parent}"
        )


def _quotient(one: Three, other: Three) -> Three:
    """Of two ratios with their intervals: it is low where the first is low and the other high."""
    ratio = one[0] / other[0]
    low, high = (ratio * math.hypot(one[end] / one[0] - 1, other[3 - end] / other[0] - 1) for end in (1, 2))
    return ratio, ratio - low, ratio + high
