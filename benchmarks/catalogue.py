"""Every part where it usually goes in `rtdetr-r18`, and those of the backbone in `rtdetr-r50`, measured against stock.

    python benchmarks/catalogue.py [--imgsz 640] [--repeats 3] [--models rtdetr-r18 rtdetr-r50] [--only extradw ...]
    python benchmarks/catalogue.py --repeats 0
    python benchmarks/catalogue.py --tables

Parameters and FLOPs are counted. Latency is that of the whole fused model in torch and of the exported one in OpenVINO,
float32, batch 1, in turn with stock in one process: milliseconds, and the median of the ratios. Peak memory is that of
a fresh process that makes two updates of four pictures at half the size. Losses change no inference, so they are
measured in training alone.

Rows are written to benchmarks/catalogue.json as they are made, and a finished row is not made again; another machine
or other settings need another file (--record). `--repeats 0` counts without measuring and writes no record. The tables
that the documentation includes are written at the end, and by `--tables` from the record alone.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from catalogue_tables import STOCK, write_tables
from memory import peak_mib
from train_step import CLASSES, make_batch, our_step
from usual_swaps import swap_text, usual_swaps

from detrofit.config.models import build
from detrofit.deployment.latency import describe_machine, drawn_picture
from detrofit.deployment.onnx import ExportOptions, write_onnx
from detrofit.deployment.openvino import write_openvino
from detrofit.files import write_file
from detrofit.model.costs import count_flops, count_parameters
from detrofit.model.detector import RTDETR
from detrofit.model.fuse import fuse
from detrofit.runtime.backends import open_backend
from detrofit.weights.model_file import ModelInfo

RECORD = Path(__file__).with_name("catalogue.json")
TABLES = Path(__file__).parents[1] / "docs" / "tables"
MODELS = ("rtdetr-r18", "rtdetr-r50")
BACKBONE_ONLY = ("rtdetr-r50",)  # whole backbones are measured in the first model alone
MEMORY_BATCH = 4
STARTED = datetime.datetime.now().isoformat(timespec="minutes")  # so that a record knows which rows one run made
Run = Callable[[], object]


@dataclass(frozen=True)
class Runs:
    """What is timed of a model."""

    torch: Run
    openvino: Run


def variants(model: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Stock, and every part that is measured in this model, with their retrofits."""
    yield STOCK, {}
    for name, retrofit in usual_swaps(model).items():
        if model not in BACKBONE_ONLY or all(address.startswith("backbone.") for address in retrofit):
            yield name, retrofit


def is_loss(retrofit: dict[str, Any]) -> bool:
    return bool(retrofit) and all(address.startswith(("loss.", "matcher.")) for address in retrofit)


def counts(model: str, retrofit: dict[str, Any], side: int) -> dict[str, Any]:
    """Parameters and operations, without memory for the weights."""
    with torch.device("meta"):
        built = build(model, retrofit, num_classes=CLASSES).eval()
        return {
            "swap": swap_text(retrofit),
            "parameters": count_parameters(built),
            "gflops": count_flops(built, (side, side)) / 1e9,
            "loss": is_loss(retrofit),
            "run": STARTED,
        }


def make_runs(model: str, retrofit: dict[str, Any], side: int, folder: Path) -> Runs:
    """The model fused in torch and exported to OpenVINO."""
    built = build(model, retrofit, num_classes=CLASSES).eval()
    fused = fuse(built).to(memory_format=torch.channels_last)
    picture = drawn_picture((side, side))[None]
    image = torch.from_numpy(picture).permute(0, 3, 1, 2) / 255
    backend = open_backend(_exported(model, built, side, folder), "cpu")

    @torch.inference_mode()
    def in_torch() -> object:
        return fused(image)

    return Runs(in_torch, lambda: backend(picture))


def _exported(name: str, model: RTDETR, side: int, folder: Path) -> Path:
    classes = tuple(str(number) for number in range(CLASSES))
    info = ModelInfo(name, classes, tuple(range(CLASSES)), (side, side))
    folder.mkdir(parents=True)
    write_onnx(folder / "model.onnx", model, info, ExportOptions())
    write_openvino(folder / "model.xml", folder / "model.onnx")
    return folder / "model.xml"


def timings(runs: Runs, stock: Runs, repeats: int) -> dict[str, float]:
    """Milliseconds of each run, and the median of its ratios to stock, which is run before it every time."""
    result = {}
    for kind in ("torch", "openvino"):
        pairs = [(_seconds(getattr(stock, kind)), _seconds(getattr(runs, kind))) for _ in range(repeats + 1)][1:]
        result[f"{kind} ms"] = 1000 * statistics.median(own for _, own in pairs)
        result[f"{kind} ratio"] = statistics.median(own / of_stock for of_stock, own in pairs)
    return result


def _seconds(run: Run) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def training_memory(model: str, retrofit: dict[str, Any], side: int) -> float:
    """MiB that a fresh process needs at most for two updates."""
    command = [sys.executable, __file__, "--memory-of", json.dumps([model, retrofit, side])]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def two_updates(model: str, retrofit: dict[str, Any], side: int) -> float:
    """This process's peak memory in MiB after two updates: the second has the optimizer's state from the start."""
    step = our_step(build(model, retrofit, num_classes=CLASSES), *make_batch(MEMORY_BATCH, side))
    step()
    step()
    return peak_mib()


def memory_side(side: int) -> int:
    """Half the size, as a size that the models take."""
    return max(32, side // 2 // 32 * 32)


def measure(model: str, names: list[str] | None, settings: dict[str, Any], record_file: Path) -> None:
    """Make the rows of a model that the record lacks, and keep each as soon as it is made."""
    side = settings["imgsz"]
    missing = [
        (name, retrofit)
        for name, retrofit in variants(model)
        if f"{model}/{name}" not in read_record(record_file, settings)["rows"]
        and (not names or name in [*names, STOCK])
    ]
    if not missing:
        return
    with tempfile.TemporaryDirectory() as folder:
        stock = make_runs(model, {}, side, Path(folder) / STOCK)
        for name, retrofit in missing:
            row = counts(model, retrofit, side)
            if not row["loss"]:
                runs = stock if name == STOCK else make_runs(model, retrofit, side, Path(folder) / name)
                row |= timings(runs, stock, settings["repeats"])
            row["training MiB"] = training_memory(model, retrofit, memory_side(side))
            print(model, name, json.dumps(row), flush=True)
            record = read_record(record_file, settings)
            record["rows"][f"{model}/{name}"] = row
            write_file(record_file, json.dumps(record, indent=1) + "\n")


def read_record(file: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The record of these settings on this machine; a new one where there is no file, an exit where it is another's."""
    if not file.exists():
        return {"settings": settings, "rows": {}}
    record = json.loads(file.read_text(encoding="utf-8"))
    if record["settings"] != settings:
        sys.exit(f"{file} was made otherwise: {record['settings']}, not {settings}; name another with --record")
    return record


def describe(arguments: argparse.Namespace) -> dict[str, Any]:
    """What must be the same for all rows of a record."""
    machine = describe_machine()
    return {
        "imgsz": arguments.imgsz,
        "repeats": arguments.repeats,
        "memory": f"{MEMORY_BATCH} pictures of {memory_side(arguments.imgsz)} pixels",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__.split("+")[0],
        **{key: machine[key] for key in ("processor", "cores")},
    }


def only_counted(arguments: argparse.Namespace, settings: dict[str, Any]) -> dict[str, Any]:
    """A record with parameters and operations alone."""
    rows = {
        f"{model}/{name}": counts(model, retrofit, arguments.imgsz)
        for model in arguments.models
        for name, retrofit in variants(model)
        if not arguments.only or name in [*arguments.only, STOCK]
    }
    return {"settings": settings, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--only", nargs="+", help="parts by name; stock is always measured")
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("--tables-folder", type=Path, default=TABLES)
    parser.add_argument("--tables", action="store_true", help="write the tables of the record, and measure nothing")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        print(two_updates(*json.loads(arguments.memory_of)))
        return
    if arguments.tables:
        record = json.loads(arguments.record.read_text(encoding="utf-8"))
    elif arguments.repeats == 0:
        record = only_counted(arguments, describe(arguments))
    else:
        settings = describe(arguments)
        for model in arguments.models:
            measure(model, arguments.only, settings, arguments.record)
        record = read_record(arguments.record, settings)
    write_tables(record, arguments.tables_folder)


if __name__ == "__main__":
    main()
