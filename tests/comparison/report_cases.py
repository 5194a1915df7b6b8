"""Studies with everything that a report shows, drawn from random numbers instead of trained, and odd ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detrofit.comparison.analysis import analyse
from detrofit.comparison.jobs import pack_resamples
from detrofit.comparison.report.page import StudyCharts
from detrofit.version import __version__
from tests.comparison.records import make_latency, make_record

RESAMPLES = 200
NO_CHARTS = StudyCharts(None, [], None)  # for tests of all else: drawing takes seconds
EVIL = "</script><img src=x onerror=alert(1)> & $x_1$ \"'"
LONG = "backbone.stage4.block: extradw with expand 2.0 and start kernel 5, everywhere, " + "and_more_" * 9


@dataclass(frozen=True)
class Drawn:
    """A variant: how much better it is in AP points, what it costs against the base, and how it came to be."""

    name: str
    effect: float = 0.0
    cost: float = 1.0
    kind: str = "variant"
    changes: dict[str, Any] = field(default_factory=dict)
    settings: Sequence[str] = ()


BASE = Drawn("base", kind="base")
WHOLE = (
    BASE,
    Drawn("extradw", 1.9, 0.86, changes={"backbone.stage4.block": {"part": "extradw", "expand": 2.0}}),
    Drawn("extradw, nwd", 0.7, 0.86, changes={"backbone.stage4.block": "extradw", "loss.box": "nwd"}),
    Drawn("starnet", -2.4, 0.71, changes={"backbone": "starnet", "train.lr": 0.001}, settings=["train.lr"]),
    Drawn("base, 46 epochs", 0.3, 1.0, "control", {"train.epochs": 46}, ["train.epochs"]),
    Drawn("yolo11n", -0.6, 0.6, "external"),
)


def drawn_study(
    variants: Sequence[Drawn] = WHOLE,
    seeds: int = 6,
    classes: Sequence[str] = ("RBC", "WBC", "Platelets"),
    epochs: int = 30,
    name: str = "bccd-extradw",
) -> dict[str, Any]:
    """Results as they come out of `analyse`; identical calls give identical numbers."""
    metrics = ["AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", *(f"AP/{each}" for each in classes)]
    random = np.random.default_rng(1)
    shared = random.normal(0, 1.6, (RESAMPLES, len(metrics)))
    level = random.uniform(25, 70, len(metrics))
    level[0] = 48.0
    runs = [
        _run(place, each, seed, metrics, level, shared, epochs)
        for seed in range(seeds)
        for place, each in enumerate(variants)
    ]
    own = [each.name for each in variants if each.kind != "external"]
    return analyse(
        {
            "format": 1,
            "detrofit": __version__,
            "study": name,
            "data": {
                "name": "bccd",
                "digest": "0",
                "classes": list(classes),
                "objects": {metric: 4000 // (2 + number) for number, metric in enumerate(metrics)},
            },
            "settings": {
                "margin": 0.5, "seeds": list(range(seeds)), "resamples": RESAMPLES, "test_split": "test", "alpha": 0.05,
            },
            "notes": [],
            "machine": "Linux x86_64, Python 3.12",
            "variants": [_line(each) for each in variants],
            "latency": [_latency(variants, own)] if len(own) > 1 else [],
            "runs": runs,
        }
    )  # fmt: skip


def fail(results: dict[str, Any], variant: str, seed: int, error: str) -> dict[str, Any]:
    """The study with that run failed."""
    runs = [
        {"variant": variant, "seed": seed, "identity": run["identity"], "detrofit": __version__, "status": "failed",
         "error": error, "experiment": {}, "seconds": 34.0}
        if (run["variant"], run["seed"]) == (variant, seed) else run
        for run in results["runs"]
    ]  # fmt: skip
    return analyse({**results, "runs": runs})


def _line(each: Drawn) -> dict[str, Any]:
    line = {"name": each.name, "kind": each.kind, "changes": each.changes, "changed_settings": list(each.settings)}
    if each.kind == "external":
        return line
    slots = {
        "backbone": {"part": "resnet-vd", "depth": 18},
        "backbone.stage4.block": {"part": "basic", "residual": True},
    }
    train = {"epochs": 40, "lr": None, "val_split": "val"}
    for key, value in each.changes.items():
        if key.startswith("train."):
            train[key.removeprefix("train.")] = value
        else:
            slots[key] = value if isinstance(value, dict) else {"part": value}
    return line | {"model": "rtdetr-n", "configuration": {"imgsz": [256, 256], "train": train, "slots": slots}}


def _run(
    place: int, each: Drawn, seed: int, metrics: Sequence[str], level: np.ndarray, shared: np.ndarray, epochs: int
) -> dict[str, Any]:
    random = np.random.default_rng([7, place, seed])
    luck = np.random.default_rng([8, seed]).normal(0, 0.5) + random.normal(0, 0.35)
    test = (level + each.effect + luck + random.normal(0, 0.6, len(metrics)) * (np.arange(len(metrics)) > 0)) / 100
    resampled = test + (shared + random.normal(0, 0.4, shared.shape)) / 100
    record = make_record(each.name, seed, float(test[0]), f"{each.name}-{place}-{seed}")
    if each.kind == "external":
        for key in ("val_AP", "curve", "parameters", "gflops", "file_bytes", "train_seconds_per_picture",
                    "peak_memory_bytes", "predictions", "start", "machine", "experiment", "seconds"):  # fmt: skip
            record.pop(key)
    else:
        epoch = np.arange(1, epochs + 1)
        curve = test[0] * (1 - np.exp(-epoch / 6)) + random.normal(0, 0.004, epochs)
        record |= {
            "curve": [[int(at), float(value)] for at, value in zip(epoch, curve, strict=True)],
            "parameters": round(3_100_000 * each.cost), "gflops": 7.2 * each.cost ** 0.7,
            "file_bytes": round(12_600_000 * each.cost),
            "train_seconds_per_picture": 0.021 * each.cost**0.5, "seconds": 1310.0 + 40 * random.random(),
        }  # fmt: skip
    record["test"] = dict(zip(metrics, map(float, test), strict=True))
    record["resamples"] = pack_resamples(dict(zip(metrics, resampled.clip(0, 1).T, strict=True)))
    record["test_pictures"] = 72
    return record


def _latency(variants: Sequence[Drawn], own: Sequence[str]) -> dict[str, Any]:
    measurement = make_latency(own)
    cost = {each.name: each.cost for each in variants}
    for place, file in enumerate(measurement["files"]):
        factor = cost[file["variant"]] ** 0.5 * (1 + 0.01 * (place % 3))
        median = {"torch": 21.3, "onnxruntime": 9.2, "openvino": 7.9}[file["runtime"]] * factor
        file["total"] = {"median": median, "low": 0.98 * median, "high": 1.03 * median, "p90": 1.09 * median}
        file["ratio"] = {"median": factor, "low": 0.985 * factor, "high": 1.012 * factor, "p90": 1.05 * factor}
    measurement["machine"] = {"processor": "AMD EPYC 9554", "cores": 2, "torch_threads": 2}
    return measurement
