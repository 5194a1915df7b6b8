"""Three epochs of every part where it usually goes in `rtdetr-n`: whether it trains, and what a picture costs.

    python benchmarks/short_trainings.py --data FOLDER [--only bccd/extradw ...]
    python benchmarks/short_trainings.py --table

FOLDER holds bccd (Pascal VOC) and deeppcb (COCO). Finished runs are in benchmarks/short_trainings.json and are not run
again. The script fails if a run breaks off or its loss does not fall. `--table` writes the record as the tables that
the page on them includes. Seconds are the process's CPU time, so that other work on the machine counts little. Every
run has the same settings: 50 queries and no denoising ones, which would take most of a step at these sizes and which no
part changes, and of the augmentation only the flips, since losses compare only where the pictures are alike.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import torch
import yaml
from usual_swaps import swap_text, usual_swaps

from detrofit.config.load import load_experiment, merge_dotted
from detrofit.data.open import open_dataset
from detrofit.evaluation.curves import read_metrics
from detrofit.files import write_file
from detrofit.model.costs import count_parameters
from detrofit.training.loop import train
from detrofit.training.run_folder import LAST, METRICS
from detrofit.weights.model_file import load_model

RECORD = Path(__file__).with_name("short_trainings.json")
TABLE = Path(__file__).parents[1] / "docs" / "tables" / "short_trainings.md"
MODEL = "rtdetr-n"
EPOCHS = 3
SETTINGS: dict[str, Any] = {
    "model.num_denoising": 0,
    "model.num_queries": 50,
    "weights": "none",
    "workers": 0,  # all work in this process, whose time is taken
    "train.epochs": EPOCHS,
    "train.lr": 5e-4,
    "augment.stop_epochs": EPOCHS,
}
IMAGE_SIZES = {"bccd": 96, "deeppcb": 160}
SUBSET = {"train": 240, "val": 60}  # pictures of deeppcb, the first of each split
# What articles swap in for small objects, beside stock.
SMALL_OBJECTS: dict[str, dict[str, Any]] = {
    "stock": {},
    "spd": {"retrofit": usual_swaps(MODEL)["spd"]},
    "nwd": {"retrofit": {"loss.box": "nwd"}},
    # With the default scale, 0, this form is nwd, number for number.
    "shape-nwd, paper": {"retrofit": {"loss.box": {"part": "shape-nwd", "form": "paper"}}},
    "shape-nwd, paper, scale 1": {"retrofit": {"loss.box": {"part": "shape-nwd", "form": "paper", "scale": 1.0}}},
    "shape-nwd, mix": {"retrofit": {"loss.box": {"part": "shape-nwd", "form": "mix"}}},
    "a stride-4 level": {"model.strides": [4, 8, 16, 32]},
}


def all_runs() -> dict[str, dict[str, Any]]:
    """The settings of each run by its name, DATA/VARIANT."""
    runs = {"bccd/stock": {}, **{f"bccd/{name}": {"retrofit": swap} for name, swap in usual_swaps(MODEL).items()}}
    return {**runs, **{f"deeppcb/{name}": settings for name, settings in SMALL_OBJECTS.items()}}


def data_set(kind: str, data: Path, folder: Path) -> Path:
    """The data of a run: blood cells whole, of the boards the first pictures, listed anew in `folder`."""
    if kind == "bccd":
        return data / kind
    splits = {}
    for split, count in SUBSET.items():
        content = json.loads((data / kind / "annotations" / f"{split}.json").read_text(encoding="utf-8"))
        content["images"] = content["images"][:count]
        kept = {image["id"] for image in content["images"]}
        content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in kept]
        write_file(folder / f"{split}.json", json.dumps(content))
        splits[split] = {"annotations": f"{split}.json", "images": str((data / kind / "images").resolve())}
    return write_file(folder / "data.yaml", yaml.safe_dump(splits))


def run(name: str, settings: dict[str, Any], data: Path, folder: Path) -> dict[str, Any]:
    """Train one variant under `folder` and return its record."""
    kind = name.split("/")[0]
    source = data_set(kind, data, folder)
    values = {"model": MODEL, "data": source, "imgsz": IMAGE_SIZES[kind], "runs": folder, "name": "run"}
    pictures = len(open_dataset(source).split("train"))
    started = time.process_time()
    result = train(load_experiment(merge_dotted(values, {**SETTINGS, **settings})))
    seconds = time.process_time() - started
    rows = read_metrics(result.folder / METRICS)
    return {
        "swap": _swap(settings),
        "parameters": count_parameters(load_model(result.folder / LAST)),
        "loss": [round(row["loss"], 4) for row in rows],
        "val AP": round(rows[-1]["AP"], 4),
        "seconds a picture": round(seconds / (EPOCHS * pictures), 4),
        "imgsz": IMAGE_SIZES[kind],
        "pictures": pictures,
        "torch": torch.__version__.split("+")[0],
        "machine": platform.machine(),
        "date": str(datetime.date.today()),
    }


def _swap(settings: dict[str, Any]) -> str:
    if "model.strides" in settings:
        return f"model.strides={settings['model.strides']}"
    return swap_text(settings.get("retrofit", {}))


def falls(row: dict[str, Any]) -> bool:
    """Whether the last epoch's loss is below the first one's."""
    return row["loss"][-1] < row["loss"][0]


def table(record: dict[str, dict[str, Any]]) -> str:
    """The record as a Markdown table for each data set."""
    lines: list[str] = []
    for kind in IMAGE_SIZES:
        rows = {name.split("/")[1]: record[name] for name in all_runs() if name.startswith(kind) and name in record}
        if not rows:
            continue
        first = next(iter(rows.values()))
        dates = sorted({row["date"] for row in rows.values()})
        lines += [
            f"**{kind}**, {first['pictures']} pictures at {first['imgsz']} pixels. Made by "
            f"`benchmarks/short_trainings.py`, {' and '.join(dates)}, {first['machine']}, one thread, "
            f"torch {first['torch']}.",
            "",
            "| part | swap | parameters | loss in epoch 1 | 2 | 3 | val AP | CPU seconds a picture |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
            *(_line(name, row) for name, row in rows.items()),
            "",
            *_missing(kind, record),
        ]
    return "\n".join(lines)


def _missing(kind: str, record: dict[str, dict[str, Any]]) -> list[str]:
    missing = [name.split("/")[1] for name in all_runs() if name.startswith(kind) and name not in record]
    return [f"Not run yet: {', '.join(f'`{name}`' for name in missing)}.", ""] if missing else []


def _line(name: str, row: dict[str, Any]) -> str:
    losses = " | ".join(f"{loss:.2f}" for loss in row["loss"])
    swap = f"`{row['swap']}`" if row["swap"] else ""
    return (
        f"| {name} | {swap} | {row['parameters'] / 1e6:.2f} M | {losses} | {row['val AP']:.3f} "
        f"| {row['seconds a picture']:.3f} |"
    )


def read_record() -> dict[str, dict[str, Any]]:
    return json.loads(RECORD.read_text()) if RECORD.exists() else {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    if arguments.table:
        write_file(TABLE, table(read_record()))
        return 0
    torch.set_num_threads(1)
    failed = []
    for name, settings in all_runs().items():
        if name in read_record() or (arguments.only and name not in arguments.only):
            continue
        print(f"== {name}", flush=True)
        try:
            with tempfile.TemporaryDirectory() as folder:
                row = run(name, settings, arguments.data, Path(folder))
        except Exception:  # the other parts can still be tried
            traceback.print_exc()
            failed.append(name)
            continue
        print(json.dumps(row), flush=True)
        if not falls(row):
            failed.append(name)
        write_file(RECORD, json.dumps({**read_record(), name: row}, indent=1) + "\n")
    if failed:
        print(f"broke off, or the loss did not fall: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
