"""The measurements behind docs/graft.md: teachers, controls, grafts, rivals at equal compute, how far it carries.

    python benchmarks/graft.py --data FOLDER [--runs runs/graft] [--only cards-0 bccd-0/control ...] [--list]
    python benchmarks/graft.py --table > docs/tables/graft.md

FOLDER holds bccd (Pascal VOC), cards (YOLO) and deeppcb (COCO). A part is DATA-SEED/STEP, and `--only` takes beginnings
of such names. A finished part is in benchmarks/graft.json and is not done again; one that was stopped goes on where it
was. `--steps` and `--batch` of the local training and `--finish` epochs are for a quick look, best with a `--record` of
its own. Everything is chosen on validation splits. The step `test` comes last for each teacher and is the only one that
looks at the test split.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detrofit.config.load import load_experiment, merge_dotted
from detrofit.deployment.latency import describe_machine
from detrofit.files import write_file
from detrofit.grafting.assemble import assemble_choices
from detrofit.grafting.budget import parse_budget
from detrofit.grafting.choice import Choice
from detrofit.grafting.cost import cost_library
from detrofit.grafting.finish import finish, rebuild
from detrofit.grafting.graft import graft, kendall_tau
from detrofit.grafting.library import KEEP
from detrofit.grafting.score import Scorer, score_library
from detrofit.grafting.training import train_library
from detrofit.grafting.workshop import GraftSettings, Workshop, open_workshop
from detrofit.model.costs import count_parameters
from detrofit.randomness import derive_seed
from detrofit.training.loop import resume, train
from detrofit.training.score import score_file
from detrofit.training.state import FILE as STATE
from detrofit.weights.model_file import load_model

RECORD = Path(__file__).with_name("graft.json")
FLIPS = {"augment.vertical_flip": 0.5}  # blood cells and boards have no up
SETS: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "cards": ("cards/data.yaml", {"imgsz": 192}, (0, 1, 2)),
    "bccd": ("bccd", {**FLIPS, "imgsz": 192}, (0,)),
    "deeppcb": ("deeppcb", {**FLIPS, "imgsz": 320, "train.epochs": 12}, (0,)),
}
RECIPE: dict[str, Any] = {
    "model": "rtdetr-n",
    "weights": "none",
    "train.epochs": 40,
    "train.batch": 4,
    "train.lr": 5e-4,
    "augment.multiscale": 0.0,
}
EXTRADW = {"part": "extradw", "expand": 2.0, "at": {"shortcut": "vd"}}
DEEP = ("backbone.stage[3,4].block",)
BUDGET = "0.7x"
FINISH_EPOCHS = 8
RANDOM_ASSEMBLIES = 8  # five are rivals, all with the best few are what Kendall's tau is taken over
REPLACED = {
    "stage 4": ("backbone.stage4.block",),
    "stages 3 and 4": DEEP,
    "stages 2 to 4": ("backbone.stage[2,3,4].block",),
    "all stages": ("backbone.stage[1,2,3,4].block",),
    "stage 3": ("backbone.stage3.block",),
    "stage 2": ("backbone.stage2.block",),
    "stage 1": ("backbone.stage1.block",),
    "neck": ("encoder.fusion_block",),
}
Row = dict[str, Any]


class Bench:
    """One teacher with all that is done to it, in a folder of its own."""

    def __init__(
        self, name: str, data: Path, runs: Path, local: dict[str, Any], finish_epochs: int, record: Path
    ) -> None:
        self.name, self.local, self.finish_epochs, self.record = name, local, finish_epochs, record
        kind, seed = name.rsplit("-", 1)
        self.path, self.changes, self.seed = data / SETS[kind][0], SETS[kind][1], int(seed)
        self.folder = runs / name

    def values(self, **changes: Any) -> dict[str, Any]:
        """The settings of a training from random numbers."""
        fixed = {"data": str(self.path), "runs": str(self.folder), "seed": self.seed}
        return merge_dotted(merge_dotted(fixed, {**RECIPE, **self.changes}), changes)

    def train(self, name: str, **changes: Any) -> Path:
        """The best model file of a training, gone on with if it was stopped."""
        run = self.folder / name
        result = resume(run) if (run / STATE).exists() else train(load_experiment(self.values(name=name, **changes)))
        return result.folder / "best.safetensors"

    @property
    def teacher(self) -> Path:
        return self.folder / "teacher" / "best.safetensors"

    def settings(self, **changes: Any) -> GraftSettings:
        values: dict[str, Any] = {"seed": self.seed, "workers": 0, "knobs": False, **self.local, **changes}
        return GraftSettings(**values)

    def workshop(self, folder: str, **changes: Any) -> Workshop:
        return open_workshop(self.teacher, self.path, self.folder / folder, self.settings(**changes))


def teacher(bench: Bench) -> Row:
    """Train the teacher."""
    return _scored(bench.train("teacher"))


def control(bench: Bench) -> Row:
    """The deep blocks, and all blocks, filled with random numbers: what a graft without any training is worth."""
    from detrofit.grafting.score import first_candidates, settled

    rows = {}
    for label in ("stages 3 and 4", "all stages", "neck"):
        workshop = bench.workshop(f"control {label}", slots=REPLACED[label], candidates=_candidates(label))
        scorer = Scorer(workshop)
        rows[label] = asdict(scorer.score(settled(workshop, first_candidates(workshop), {})))
        rows["original"] = asdict(scorer.teacher)
        rows[f"{label}: norms alone"] = asdict(scorer.norms_alone)
    return rows


def blocks(bench: Bench) -> Row:
    """All deep blocks grafted with ExtraDW, trained locally alone, and then on their own inputs too, no fine-tuning."""
    return _all_replaced(bench, "blocks", "stages 3 and 4", finish_epochs=0)


def whole(bench: Bench) -> Row:
    """The tool as it comes, under the budget, with fine-tuning of its front and of the teacher."""
    result = graft(
        bench.teacher,
        bench.path,
        bench.folder / "graft",
        bench.settings(budgets=(parse_budget(BUDGET),), finish_epochs=bench.finish_epochs, knobs=True),
    )
    kept = ("verdict", "winner", "assembled", "teacher", "finished_teacher", "control", "corrections", "hours", "knobs")
    return {key: result.results[key] for key in kept} | {"looks": result.results["search"]["looks"]}


def replaced(bench: Bench, label: str) -> Row:
    """What replacing a part of the network costs, before and after fine-tuning."""
    return _all_replaced(bench, f"replaced {label}", label, finish_epochs=bench.finish_epochs)


def assemblies(bench: Bench) -> Row:
    """Random assemblies within the budget, trained locally as the chosen ones, and Kendall's tau over all."""
    workshop = bench.workshop("graft", budgets=(parse_budget(BUDGET),))
    states, _ = train_library(workshop)
    scorer = Scorer(workshop)
    scores, costs = score_library(workshop, scorer, states), cost_library(workshop, states)
    drawn = _random_choices(workshop, costs, scores, RANDOM_ASSEMBLIES)
    made = assemble_choices(workshop, scorer, drawn, states, costs, scores)
    files = {each.name: each.file for each in made}
    finished = finish(workshop, scorer, files, bench.finish_epochs)
    results = json.loads((workshop.folder / "results.json").read_text("utf-8"))
    chosen = [each for each in results["assembled"] if each["finished"]]
    predicted = [each.predicted_loss for each in made] + [each["predicted_loss"] for each in chosen]
    before = [each.score.total for each in made] + [each["score"]["total"] for each in chosen]
    after = [finished[each.name]["score"].total for each in made] + [each["finished"]["total"] for each in chosen]
    return {
        "random": {each.name: {"keys": each.keys, "score": asdict(each.score), "cost": asdict(each.cost),
                               "finished": asdict(finished[each.name]["score"])} for each in made},
        "tau before fine-tuning": kendall_tau(predicted, before),
        "tau after fine-tuning": kendall_tau(predicted, after),
    }  # fmt: skip


def rivals(bench: Bench) -> Row:
    """Trainings with the compute of a teacher and a whole graft together, and no graft."""
    record = _read(bench.record)
    extra = _extra_epochs(record[f"{bench.name}/teacher"], record[f"{bench.name}/graft"])
    epochs = int(bench.values()["train"]["epochs"]) + extra
    winner = record[f"{bench.name}/graft"]["winner"]
    chosen = bench.folder / "graft" / "assemblies" / f"{winner}.safetensors"
    candidates: dict[str, dict[str, Any]] = {
        "teacher trained longer": {},
        "all ExtraDW from random numbers": {"retrofit": {"backbone.stage[1,2,3,4].block": EXTRADW}},
    }
    if winner != KEEP:
        candidates["the chosen parts from random numbers"] = {"retrofit": rebuild(chosen)["retrofit"]}
        share = count_parameters(load_model(chosen)) / count_parameters(load_model(bench.teacher))
        candidates["uniformly narrower"] = {"retrofit": {"backbone": _narrower(share)}}
    rows = {}
    for label, changes in candidates.items():
        rows[label] = _scored(bench.train(f"rival {label}", **{**changes, "train.epochs": epochs}))
    return {"epochs": epochs, "rows": rows}


def test(bench: Bench) -> Row:
    """Every model of this teacher on the test split, once."""
    files = {"teacher": bench.teacher}
    files |= {path.stem: path for path in sorted((bench.folder / "graft" / "front").glob("*.safetensors"))}
    files |= {path.stem + ", no fine-tuning": path
              for path in sorted((bench.folder / "graft" / "assemblies").glob("*.safetensors"))}  # fmt: skip
    files |= {path.stem + ", deep blocks": path
              for path in sorted((bench.folder / "blocks" / "assemblies").glob("*.safetensors"))}  # fmt: skip
    files |= {run.name: run / "best.safetensors" for run in sorted(bench.folder.glob("rival *"))}
    rows = {}
    for label, file in files.items():
        _, evaluation = score_file(file, bench.path, "test", workers=0, out=bench.folder / "test" / label)
        assert evaluation is not None
        rows[label] = {key: evaluation.summary[key] for key in ("AP", "AP50")}
        rows[label]["parameters"] = count_parameters(load_model(file))
    return rows


STEPS: dict[str, Callable[[Bench], Row]] = {
    "teacher": teacher,
    "control": control,
    "blocks": blocks,
    "graft": whole,
    **{f"replaced {label}": partial(replaced, label=label) for label in REPLACED},
    "assemblies": assemblies,
    "rivals": rivals,
    "test": test,
}
ONLY_FIRST = (*(f"replaced {label}" for label in REPLACED), "assemblies", "rivals")  # for the first seed of a data set


def parts() -> Iterator[str]:
    """Every part's name, in the order in which they can be done."""
    for kind, (_, _, seeds) in SETS.items():
        for seed in seeds:
            yield from (f"{kind}-{seed}/{step}" for step in STEPS if step not in ONLY_FIRST or seed == seeds[0])


def _all_replaced(bench: Bench, folder: str, label: str, finish_epochs: int) -> Row:
    """Every slot of a kind filled with one candidate: before and after the second pass, and after fine-tuning."""
    from detrofit.grafting.score import settled

    workshop = bench.workshop(folder, slots=REPLACED[label], candidates=_candidates(label))
    scorer = Scorer(workshop)
    states, errors = train_library(workshop)
    scores, costs = score_library(workshop, scorer, states), cost_library(workshop, states)
    chosen = [slot.candidates[0] for slot in workshop.slots]
    alone = scorer.score(settled(workshop, chosen, states))
    choice = Choice(tuple(each.key for each in chosen), math.nan, {})
    (made,) = assemble_choices(workshop, scorer, [choice], states, costs, scores)
    row = {
        "original": asdict(scorer.teacher),
        "norms alone": asdict(scorer.norms_alone),
        "imitation errors": errors,
        "first pass alone": asdict(alone),
        "both passes": asdict(made.score),
        "predicted loss": made.predicted_loss,
        "cost": asdict(made.cost),
        "cost of the original": asdict(costs[KEEP]),
        "hours": workshop.record("hours.json"),
    }
    if finish_epochs:
        finished = finish(workshop, scorer, {KEEP: bench.teacher, made.name: made.file}, finish_epochs)
        row["fine-tuned"] = {name: asdict(each["score"]) for name, each in finished.items()}
    return row


def _candidates(label: str) -> tuple[Any, ...]:
    if label == "neck":
        return ({"part": "csp-rep", "expansion": 0.25, "blocks": 1},)
    return (EXTRADW,)


def _random_choices(workshop: Workshop, costs: Any, scores: Any, count: int) -> list[Choice]:
    """Random candidates for all slots that together meet the budget by their sums."""
    generator = np.random.default_rng(derive_seed(workshop.settings.seed, "random assemblies"))
    base = costs[KEEP].latency
    limit = workshop.settings.budgets[0].limit(base)
    found: dict[tuple[str, ...], Choice] = {}
    for _ in range(100_000):
        drawn = [slot.candidates[n] for slot in workshop.slots
                 if (n := int(generator.integers(len(slot.candidates) + 1))) < len(slot.candidates)]  # fmt: skip
        keys = tuple(each.key for each in drawn if math.isfinite(scores[each.key].total))
        if keys and base + sum(costs[key].latency - base for key in keys) <= limit:
            found[keys] = Choice(keys, sum(scores[key].total for key in keys), {})
        if len(found) == count:
            break
    return list(found.values())


def _narrower(share: float) -> dict[str, Any]:
    """A ResNet-18-vd whose stages are narrower alike; parameters go with the square of the width."""
    widths = [max(8, 8 * round(width * math.sqrt(share) / 8)) for width in (16, 40, 80, 160)]
    return {"part": "resnet-vd", "depth": 18, "widths": widths}


def _extra_epochs(trained: Row, grafted: Row) -> int:
    """Epochs of the teacher's training that take as long as the whole graft."""
    return math.ceil(60 * sum(grafted["hours"].values()) / (trained["minutes"] / trained["epochs"]))


def _scored(file: Path) -> Row:
    from detrofit.evaluation.curves import read_metrics

    rows = read_metrics(file.parent / "metrics.jsonl")
    return {"val AP": max(row["AP"] for row in rows), "epochs": rows[-1]["epoch"],
            "parameters": count_parameters(load_model(file))}  # fmt: skip


def _read(record: Path) -> dict[str, Row]:
    return json.loads(record.read_text("utf-8")) if record.exists() else {}


def _do(part: str, bench: Bench) -> None:
    """Do a part and write its row; minutes are those of this sitting and of stopped ones before it."""
    step = part.split("/")[1]
    clock = bench.folder / f"{step}.minutes"
    before = float(clock.read_text()) if clock.exists() else 0.0
    started = time.monotonic()
    try:
        row = STEPS[step](bench)
    finally:
        minutes = before + (time.monotonic() - started) / 60
        write_file(clock, str(minutes))
    facts = {
        "local": bench.local,
        "minutes": minutes,
        "date": str(datetime.date.today()),
        "threads": torch.get_num_threads(),
        "machine": describe_machine()["processor"],
    }
    write_file(bench.record, json.dumps({**_read(bench.record), part: {**row, **facts}}, indent=1) + "\n")


def table(record: dict[str, Row]) -> str:
    """The rows of docs/graft.md as Markdown: AP on the validation split, of 100, each with where it comes from."""
    lines = ["| data, seed | model | parameters, M | latency | val AP | test AP | minutes |", "| --- " * 7 + "|"]
    for name in dict.fromkeys(part.split("/")[0] for part in record):
        lines += [f"| {name} | {' | '.join(cells)} |" for cells in _table_rows(name, record)]
    return "\n".join(lines)


def _table_rows(name: str, record: dict[str, Row]) -> Iterator[list[str]]:
    tested = record.get(f"{name}/test", {})

    def row(label: str, ap: float, minutes: float | None = None, cost: Row | None = None, test: str = "",
            parameters: int | None = None) -> list[str]:  # fmt: skip
        size = cost["parameters"] if cost else parameters
        latency = f"{cost['ratio']:.2f} ({cost['ratio_low']:.2f} to {cost['ratio_high']:.2f})" if cost else ""
        of_test = f"{100 * tested[test]['AP']:.1f}" if test in tested else ""
        return [label, f"{size / 1e6:.2f}" if size else "", latency, f"{100 * ap:.1f}", of_test,
                "" if minutes is None else f"{minutes:.1f}"]  # fmt: skip

    if trained := record.get(f"{name}/teacher"):
        yield row("teacher", trained["val AP"], trained["minutes"], test="teacher", parameters=trained["parameters"])
    for label, score in record.get(f"{name}/control", {}).items():
        if isinstance(score, dict) and label in REPLACED:
            yield row(f"{label}: random numbers, no training", score["ap"])
    if deep := record.get(f"{name}/blocks"):
        yield row("stages 3 and 4: ExtraDW, first pass", deep["first pass alone"]["ap"])
        yield row("stages 3 and 4: ExtraDW, both passes", deep["both passes"]["ap"], deep["minutes"], deep["cost"])
    if grafted := record.get(f"{name}/graft"):
        for each in grafted["assembled"]:
            label = "chosen" if each["name"] == grafted["winner"] else "assembled"
            yield row(f"{label} {each['name']}", each["score"]["ap"], None, each["cost"],
                      test=f"{each['name']}, no fine-tuning")  # fmt: skip
            if each["finished"]:
                yield row(f"{label} {each['name']}, fine-tuned", each["finished"]["ap"], None, each["cost"],
                          test=each["name"])  # fmt: skip
    for label in REPLACED:
        if all_of_it := record.get(f"{name}/replaced {label}"):
            cost = all_of_it["cost"]
            yield row(f"{label}: all replaced, first pass", all_of_it["first pass alone"]["ap"], None, cost)
            yield row(f"{label}: all replaced, both passes", all_of_it["both passes"]["ap"], all_of_it["minutes"], cost)
    for label, rival in record.get(f"{name}/rivals", {}).get("rows", {}).items():
        yield row(label, rival["val AP"], test=f"rival {label}", parameters=rival["parameters"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/graft"))
    parser.add_argument("--only", nargs="*", default=[], help="beginnings of parts' names")
    parser.add_argument("--list", action="store_true", help="name all parts, and which are done")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--finish", type=int, default=FINISH_EPOCHS)
    parser.add_argument("--record", type=Path, default=RECORD)
    arguments = parser.parse_args()
    if arguments.table:
        print(table(_read(arguments.record)))
        return
    local = {"steps": arguments.steps, "second_steps": arguments.steps // 2, "batch": arguments.batch}
    for part in parts():
        done = part in _read(arguments.record)
        wanted = not arguments.only or any(part.startswith(each) for each in arguments.only)
        if arguments.list:
            print(f"{'done' if done else '    '} {part}")
        elif wanted and not done:
            print(part, flush=True)
            bench = Bench(part.split("/")[0], arguments.data, arguments.runs, local, arguments.finish, arguments.record)
            _do(part, bench)


if __name__ == "__main__":
    main()
