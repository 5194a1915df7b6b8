"""Whether a teacher helps: an rtdetr-n with ExtraDW that learns from a larger model, against the same alone.

    python benchmarks/teacher.py --data FOLDER [--runs runs/teacher] [--seeds 3] [--epochs 40] [--lite FILE] [--jobs 1]
    python benchmarks/teacher.py --table > docs/tables/teacher.md

FOLDER holds bccd (Pascal VOC). The teacher is trained once, an rtdetr-r18 or, with --lite, rtdetr-n with a pretrained
EfficientNet-Lite0 backbone. Then updates with and without the teacher are timed, in turns, and a study compares the
taught student with the student alone for the same time, over seeds. Its report says what it shows, whatever that is;
teacher.json keeps it for the table. What is done already is not done again, and what was stopped goes on.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import time
from pathlib import Path
from typing import Any

from detrofit.comparison.compare import plan_study, run_study
from detrofit.comparison.executors import LocalProcesses
from detrofit.comparison.study import BASE, load_study
from detrofit.comparison.tables import live_table
from detrofit.config.load import load_experiment, merge_dotted
from detrofit.data.loader import EvaluationLoader
from detrofit.data.open import open_dataset
from detrofit.deployment.machine import describe_machine
from detrofit.evaluation.curves import read_metrics
from detrofit.files import write_file
from detrofit.training.devices import Devices
from detrofit.training.finite import FiniteGuard
from detrofit.training.loop import resume, train
from detrofit.training.optimizer import make_optimizer
from detrofit.training.plan import make_plan
from detrofit.training.prepare import make_model, open_teacher
from detrofit.training.run_folder import BEST, METRICS
from detrofit.training.state import FILE as STATE
from detrofit.training.state import Progress
from detrofit.training.step import Stepper
from detrofit.weights.model_file import read_info

STUDENT: dict[str, Any] = {
    "model": "rtdetr-n",
    "retrofit": {"backbone.stage[1,2,3,4].block": "extradw"},
    "imgsz": 256,
    "weights": "none",
    "train": {"epochs": 40, "batch": 4, "lr": 5e-4, "val_every": 3},
    "augment": {"multiscale": 0.0, "vertical_flip": 0.5},
}
TEACHER = {"model": "rtdetr-r18", "retrofit": {}, "train.lr": 2e-4}
ROUNDS = 12
RECORD = Path(__file__).with_name("teacher.json")


def train_teacher(data: Path, runs: Path, epochs: int, lite: Path | None, imgsz: int) -> Path:
    """The teacher's best file; a training that was stopped has one, too, and goes on to its end."""
    folder = runs / ("teacher-lite" if lite else "teacher")
    if (folder / STATE).exists():
        return resume(folder).folder / BEST
    changes: dict[str, Any] = dict(TEACHER)
    if lite is not None:
        changes = {"retrofit": {"backbone": "timm:tf_efficientnet_lite0"}, "weights": str(lite)}
    values = {**STUDENT, "data": data, "runs": runs, "name": folder.name, "imgsz": imgsz}
    return train(load_experiment(merge_dotted(values, {**changes, "train.epochs": epochs}))).folder / BEST


def step_seconds(values: dict[str, Any], teacher: Path, folder: Path) -> tuple[float, float]:
    """Median seconds of an update alone and with the teacher, timed in turns."""
    experiment = load_experiment(merge_dotted(values, {"train.teacher": teacher}))
    index = open_dataset(experiment.data).split("train")
    devices = Devices(experiment.device)
    model, _, _ = make_model(experiment, index.class_names, Progress(), resumed=False)
    model = devices.place(model).train()
    plan = make_plan(experiment, 100, pretrained="nothing")
    guard = FiniteGuard(model, folder)
    optimizer = make_optimizer(model, experiment.train, plan)
    taught = open_teacher(experiment, index.class_names, Progress(), devices)
    batch = next(iter(EvaluationLoader(index, experiment.imgsz, experiment.train.batch, workers=0)))
    times: dict[bool, list[float]] = {False: [], True: []}
    for step in range(2 * ROUNDS):
        with_teacher = bool(step % 2)
        stepper = Stepper(model, model, optimizer, devices, guard, 0, 0.1, [], taught if with_teacher else None)
        started = time.perf_counter()
        stepper.update([batch], step, several_sizes=False)
        times[with_teacher].append(time.perf_counter() - started)
    alone, both = (statistics.median(times[each][2:]) for each in (False, True))
    return alone, both


def as_record(results: dict[str, Any], setting: dict[str, Any], epochs: dict[str, int]) -> dict[str, Any]:
    """What the table needs: of each student its epochs, what its training took, and test AP (of 100) by seed."""
    comparison = results["comparisons"][0]
    students = {}
    for line in results["variants"]:
        runs = [run for run in results["runs"] if run["variant"] == line["name"] and run["status"] == "done"]
        students[line["name"]] = {
            "epochs": epochs[line["name"]],
            "train_ms_per_picture": 1000 * line["costs"]["train_seconds_per_picture"],
            "minutes": line["costs"]["seconds"] / 60,
            "test_AP": [100 * run["test"]["AP"] for run in sorted(runs, key=lambda run: int(run["seed"]))],
        }
    judged = {"difference": comparison["metrics"]["AP"]["difference"], **comparison["verdict"]}
    machine = describe_machine()
    where = {"date": str(datetime.date.today()), "machine": machine["processor"], "cores": machine["cores"]}
    return {**where, **setting, "seeds": comparison["seeds"], "students": students, "verdict": judged}


def table(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    if not record:
        return "Not measured yet."
    lines = ["| student | epochs | training, ms a picture | a run, min | test AP by seed | mean |", "| --- " * 6 + "|"]
    for name, row in record["students"].items():
        cells = (row["epochs"], f"{row['train_ms_per_picture']:.0f}", f"{row['minutes']:.0f}")
        points = ", ".join(f"{ap:.1f}" for ap in row["test_AP"])
        mean = f"{statistics.mean(row['test_AP']):.1f}"
        lines.append(f"| {' | '.join(map(str, ('alone' if name == BASE else name, *cells, points, mean)))} |")
    verdict, (low, high) = record["verdict"], record["verdict"]["interval"]
    told = (
        f"The taught student less the student alone: {verdict['difference']:+.2f} AP, 95 % interval {low:+.2f} to "
        f"{high:+.2f}, verdict: {verdict['word']}. The teacher ({record['teacher']}) has a validation AP of "
        f"{100 * record['teacher_val_AP']:.1f}. `benchmarks/teacher.py`, {record['machine']}, {record['cores']} cores, "
        f"{record['jobs']} at a time, {record['date']}."
    )
    return "\n".join([*lines, "", told])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="the folder that holds bccd")
    parser.add_argument("--runs", type=Path, default=Path("runs/teacher"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--imgsz", type=int, default=256)
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    parser.add_argument("--lite", type=Path, help="weights of tf_efficientnet_lite0: the teacher gets that backbone")
    parser.add_argument("--table", action="store_true", help="print the record of the last measurement, and stop")
    arguments = parser.parse_args()
    if not arguments.table:
        if arguments.data is None:
            parser.error("give --data")
        measure(arguments)
    print(table(json.loads(RECORD.read_text("utf-8")) if RECORD.exists() else {}))


def measure(arguments: argparse.Namespace) -> None:
    """Train what is not trained yet, and write the record."""
    data = arguments.data / "bccd" if (arguments.data / "bccd").exists() else arguments.data
    teacher = train_teacher(data, arguments.runs, arguments.epochs, arguments.lite, arguments.imgsz)
    base = merge_dotted({**STUDENT, "data": data}, {"train.epochs": arguments.epochs, "imgsz": arguments.imgsz})
    timed = arguments.runs / "step_seconds.json"
    if not timed.exists():  # measured anew it would be another study
        write_file(timed, json.dumps(step_seconds(base, teacher, arguments.runs)) + "\n")
    alone, taught = json.loads(timed.read_text(encoding="utf-8"))
    longer = round(arguments.epochs * taught / alone)
    print(f"an update takes {alone:.3f} s alone, {taught:.3f} s with the teacher: {longer} epochs in the same time")
    # The base is the student alone for the same time, so that the verdict is on what was asked. Both are validated as
    # often, or the best checkpoint of the one would be picked from more than that of the other.
    often = STUDENT["train"]["val_every"]
    variants = {"taught": {"train.teacher": str(teacher), "train.epochs": arguments.epochs, "train.val_every": often}}
    seldom = max(1, round(often * longer / arguments.epochs))
    base = merge_dotted(base, {"train.epochs": longer, "train.val_every": seldom})
    # All are one network, so that there is no latency to compare.
    study = load_study({**base, "variants": variants, "seeds": arguments.seeds, "latency_rounds": 0})
    planned = plan_study(study, arguments.runs / "study")
    with live_table(planned) as show:
        results = run_study(planned, LocalProcesses(arguments.jobs), show, print)
    info = read_info(teacher)
    backbone = "an EfficientNet-Lite0 pretrained on ImageNet" if arguments.lite else "its own backbone"
    setting = {
        "teacher": f"{info.name} with {backbone}, {read_metrics(teacher.with_name(METRICS))[-1]['epoch']:.0f} epochs",
        "teacher_val_AP": info.trained["val_AP"],
        "jobs": arguments.jobs,
    }
    setting |= {"seconds_alone": alone, "seconds_taught": taught}
    record = as_record(results, setting, {BASE: longer, "taught": arguments.epochs})
    write_file(RECORD, json.dumps(record, indent=1) + "\n")
    print(f"report: {arguments.runs / 'study' / 'report.html'}")


if __name__ == "__main__":
    main()
