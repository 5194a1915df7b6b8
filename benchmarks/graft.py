"""The measurements behind docs/graft.md: teachers, controls, grafts, rivals at equal compute, how far it carries.

    python benchmarks/graft.py --data FOLDER [--runs runs/graft] [--only cards-0 bccd-0/control ...] [--list]
    python benchmarks/graft.py --table > docs/tables/graft.md

FOLDER holds bccd (Pascal VOC), cards (YOLO) and deeppcb (COCO). A part is DATA-SEED/STEP, and `--only` takes beginnings
of such names. A finished part is in benchmarks/graft.json and is not done again; one that was stopped goes on where it
was, and one that cannot be done is told in a line, before the next is begun. `--steps` and `--batch` of the local
training, `--rounds` of timing and `--finish` epochs are for a quick look, best with a `--record` of its own. Everything
is chosen on validation splits. The step `test` comes last for each teacher and is the only one that looks at the test
split.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from graft_tables import table

from detrofit.config.load import load_experiment, merge_dotted
from detrofit.deployment.latency import describe_machine
from detrofit.errors import DetrofitError
from detrofit.evaluation.curves import read_metrics
from detrofit.files import write_file
from detrofit.grafting.additivity import kendall_tau
from detrofit.grafting.assemble import assemble_choices
from detrofit.grafting.budget import BudgetError, parse_budget
from detrofit.grafting.choice import Choice
from detrofit.grafting.cost import Cost, cost_library
from detrofit.grafting.finish import finish, rebuild, train_in
from detrofit.grafting.graft import GraftResult, graft
from detrofit.grafting.library import KEEP
from detrofit.grafting.score import Score, Scorer, first_candidates, score_library, settled
from detrofit.grafting.training import train_library
from detrofit.grafting.workshop import GraftSettings, Workshop, open_workshop
from detrofit.model.build import assemble
from detrofit.model.costs import count_parameters
from detrofit.parts.retrofit import parse_retrofit
from detrofit.randomness import derive_seed
from detrofit.training.run_folder import BEST, METRICS
from detrofit.training.score import score_file
from detrofit.weights.model_file import load_model, read_info, save_model
from detrofit.weights.truncate import truncated

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
TOOL: dict[str, Any] = {}  # how the step `graft` calls it beside the budget: as it comes
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
CONTROLS = ("stages 3 and 4", "all stages", "neck")
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
        return train_in(self.folder / name, lambda: load_experiment(self.values(name=name, **changes)))

    @property
    def teacher(self) -> Path:
        return self.folder / "teacher" / BEST

    def row(self, step: str) -> Row:
        """What another step of this teacher found; DetrofitError where it has not been done."""
        found = _read(self.record).get(f"{self.name}/{step}")
        if found is None:
            raise DetrofitError(f"this needs {self.name}/{step}, which is not done")
        return found

    def settings(self, **changes: Any) -> GraftSettings:
        values: dict[str, Any] = {"seed": self.seed, "workers": 0, "knobs": False, **self.local, **changes}
        return GraftSettings(**values)

    def workshop(self, folder: str, **changes: Any) -> Workshop:
        """A graft's folder, with the slots and candidates to try there."""
        return open_workshop(self.teacher, self.path, self.folder / folder, self.settings(**changes))


def teacher(bench: Bench) -> Row:
    """Train the teacher."""
    return _scored(bench.train("teacher"))


def control(bench: Bench) -> Row:
    """The deep blocks, and all blocks, filled with random numbers: what a graft without any training is worth."""
    rows = {}
    for label in CONTROLS:
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
    """The tool as it comes, under the budget, with fine-tuning of its front and of the teacher.

    Where nothing meets the budget, what is nearest is noted, and the front at several levels takes its place.
    """
    missed = None
    try:
        result = _whole(bench, BUDGET)
    except BudgetError as error:
        missed, result = str(error).partition(";")[0], _whole(bench)
    kept = ("verdict", "winner", "assembled", "teacher", "finished_teacher", "control", "corrections", "tau", "hours",
            "knobs")  # fmt: skip
    return {key: result.results[key] for key in kept} | {"looks": result.results["search"]["looks"], "missed": missed}


def _whole(bench: Bench, *budgets: str) -> GraftResult:
    limits = tuple(map(parse_budget, budgets))
    settings = bench.settings(**{"budgets": limits, "finish_epochs": bench.finish_epochs, "knobs": True, **TOOL})
    return graft(bench.teacher, bench.path, bench.folder / "graft", settings)


def replaced(bench: Bench, label: str) -> Row:
    """What replacing a part of the network costs, before and after fine-tuning."""
    return _all_replaced(bench, f"replaced {label}", label, finish_epochs=bench.finish_epochs)


def assemblies(bench: Bench) -> Row:
    """Random assemblies within the budget, trained locally as the chosen ones, and Kendall's tau over all.

    Where nothing meets the budget, they are within half of what the fastest saves.
    """
    grafted = bench.row("graft")
    workshop = bench.workshop("graft", **TOOL)
    states, _ = train_library(workshop)
    scorer = Scorer(workshop)
    scores, costs = score_library(workshop, scorer, states), cost_library(workshop, states)
    fastest = min((each["cost"]["ratio"] for each in grafted["assembled"]), default=1.0)
    limit = parse_budget(BUDGET).amount if grafted["missed"] is None else (1 + fastest) / 2
    drawn = _random_choices(workshop, costs, scores, limit, RANDOM_ASSEMBLIES)
    made = assemble_choices(workshop, scorer, drawn, states, costs, scores)
    files = {each.name: each.file for each in made}
    finished = finish(workshop, scorer, files, bench.finish_epochs) if bench.finish_epochs else {}
    random = {each.name: {"keys": each.keys, "predicted_loss": each.predicted_loss, "score": asdict(each.score),
                          "cost": asdict(each.cost), "finished": _after(finished, each.name)}
              for each in made}  # fmt: skip
    together = [*random.values(), *(each for each in grafted["assembled"] if each["name"] not in random)]
    tuned = [each for each in together if each["finished"]]
    return {
        "limit": limit,
        "random": random,
        "tau before fine-tuning": _tau(together, "score"),
        "tau after fine-tuning": _tau(tuned, "finished"),
    }


def _after(finished: Row, name: str) -> Row | None:
    """The score after fine-tuning, where that was done."""
    return asdict(finished[name]["score"]) if name in finished else None


def _tau(entries: list[Row], score: str) -> Row | None:
    return kendall_tau([each["predicted_loss"] for each in entries], [each[score]["total"] for each in entries])


def rivals(bench: Bench) -> Row:
    """Trainings with the compute of a teacher and a whole graft together, and no graft; and the free knobs."""
    grafted = bench.row("graft")
    epochs = int(bench.values()["train"]["epochs"]) + _extra_epochs(bench.row("teacher"), grafted)
    candidates: dict[str, dict[str, Any]] = {
        "teacher trained longer": {},
        "all ExtraDW from random numbers": {"retrofit": {"backbone.stage[1,2,3,4].block": EXTRADW}},
    }
    rows: dict[str, Row] = {}
    if grafted["winner"] != KEEP:
        chosen = bench.folder / "graft" / "assemblies" / f"{grafted['winner']}.safetensors"
        candidates["the chosen parts from random numbers"] = {"retrofit": rebuild(chosen)["retrofit"]}
        narrower = _narrower(bench, count_parameters(load_model(chosen)))
        candidates["uniformly narrower"] = {"retrofit": {"backbone": narrower}}
        winner = next(each for each in grafted["assembled"] if each["name"] == grafted["winner"])
        rows |= _best_knobs(bench, grafted["knobs"], winner["cost"]["ratio"])
    for label, changes in candidates.items():
        rows[label] = _scored(bench.train(f"rival {label}", **{**changes, "train.epochs": epochs}))
    return {"epochs": epochs, "rows": rows}


def _best_knobs(bench: Bench, points: list[Row], ratio: float) -> dict[str, Row]:
    """The teacher with fewer queries, layers or pixels that is no slower than the graft; none if there is none."""
    within = [each for each in points if each["ratio"] <= ratio]
    if not within:
        return {}
    best = max(within, key=lambda each: each["ap"])
    model = truncated(load_model(bench.teacher), num_queries=best["num_queries"], decoder_layers=best["decoder_layers"])
    file = bench.folder / "rival free knobs" / BEST
    save_model(file, model, replace(read_info(bench.teacher), input_size=tuple(best["imgsz"])))
    return {"free knobs": {"val AP": best["ap"], "ratio": best["ratio"], "parameters": count_parameters(model)} | best}


def test(bench: Bench) -> Row:
    """Every model of this teacher on the test split, once."""
    files = {"teacher": bench.teacher}
    files |= {path.stem: path for path in sorted((bench.folder / "graft" / "front").glob("*.safetensors"))}
    files |= {path.stem + ", no fine-tuning": path
              for path in sorted((bench.folder / "graft" / "assemblies").glob("*.safetensors"))}  # fmt: skip
    files |= {path.stem + ", deep blocks": path
              for path in sorted((bench.folder / "blocks" / "assemblies").glob("*.safetensors"))}  # fmt: skip
    files |= {run.name: run / BEST for run in sorted(bench.folder.glob("rival *"))}
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
    if finish_epochs:  # the teacher, fine-tuned alike, is among the results of the step `graft`
        finished = finish(workshop, scorer, {made.name: made.file}, finish_epochs)
        row["fine-tuned"] = _after(finished, made.name)
    return row


def _candidates(label: str) -> tuple[Any, ...]:
    if label == "neck":
        return ({"part": "csp-rep", "expansion": 0.25, "blocks": 1},)
    return (EXTRADW,)


def _random_choices(
    workshop: Workshop, costs: dict[str, Cost], scores: dict[str, Score], limit: float, count: int
) -> list[Choice]:
    """Random candidates for all slots that by their sums take at most that share of the latency."""
    generator = np.random.default_rng(derive_seed(workshop.settings.seed, "random assemblies"))
    found: dict[tuple[str, ...], Choice] = {}
    for _ in range(100_000):
        drawn = _random_candidates(workshop, generator)
        keys = tuple(key for key in drawn if math.isfinite(scores[key].total))
        if keys and 1 + sum(costs[key].ratio - 1 for key in keys) <= limit:
            found[keys] = Choice(keys, sum(scores[key].total for key in keys), {})
        if len(found) == count:
            break
    return list(found.values())


def _random_candidates(workshop: Workshop, generator: np.random.Generator) -> list[str]:
    """For each slot one of its candidates or the original, all alike; of slots that overlap the first drawn counts."""
    drawn: dict[int, str] = {}
    for number in generator.permutation(len(workshop.slots)).tolist():
        slot = workshop.slots[number]
        place = int(generator.integers(len(slot.candidates) + 1))
        if place < len(slot.candidates) and not any(slot.overlaps(workshop.slots[other]) for other in drawn):
            drawn[number] = slot.candidates[place].key
    return [drawn[number] for number in sorted(drawn)]


def _narrower(bench: Bench, parameters: int) -> dict[str, Any]:
    """The teacher's ResNet-vd, its stages narrower alike, so that the whole comes nearest to so many parameters."""
    teacher = load_model(bench.teacher)
    stock, backbone = parse_retrofit(teacher.slots), dict(teacher.slots["backbone"])

    def narrowed(share: float) -> dict[str, Any]:
        return backbone | {"widths": [max(8, 8 * round(width * share / 8)) for width in backbone["widths"]]}

    def size(part: dict[str, Any]) -> int:
        swap = parse_retrofit({"backbone": part})
        with torch.device("meta"):
            return count_parameters(assemble(teacher.frame, stock, swap, num_classes=teacher.num_classes)[0])

    return min((narrowed(step / 40) for step in range(8, 41)), key=lambda part: abs(size(part) - parameters))


def _extra_epochs(trained: Row, grafted: Row) -> int:
    """Epochs of the teacher's training that take as long as the whole graft."""
    return math.ceil(60 * sum(grafted["hours"].values()) / (trained["minutes"] / trained["epochs"]))


def _scored(file: Path) -> Row:
    rows = read_metrics(file.with_name(METRICS))
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/graft"))
    parser.add_argument("--only", nargs="*", default=[], help="beginnings of parts' names")
    parser.add_argument("--list", action="store_true", help="name all parts, and which are done")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--runtime", choices=("openvino", "onnxruntime", "torch"), default="openvino")
    parser.add_argument("--finish", type=int, default=FINISH_EPOCHS)
    parser.add_argument("--record", type=Path, default=RECORD)
    arguments = parser.parse_args()
    if arguments.table:
        print(table(_read(arguments.record)))
        return
    if arguments.data is None and not arguments.list:
        parser.error("give --data FOLDER")
    local = {"steps": arguments.steps, "second_steps": arguments.steps // 2, "batch": arguments.batch,
             "rounds": arguments.rounds, "runtime": arguments.runtime}  # fmt: skip
    failed = False
    for part in parts():
        done = part in _read(arguments.record)
        wanted = not arguments.only or any(part.startswith(each) for each in arguments.only)
        if arguments.list:
            print(f"{'done' if done else '    '} {part}")
        elif wanted and not done:
            print(part, flush=True)
            bench = Bench(part.split("/")[0], arguments.data, arguments.runs, local, arguments.finish, arguments.record)
            try:
                _do(part, bench)
            except DetrofitError as error:
                failed = True
                print(f"{part} cannot be done: {error}", file=sys.stderr, flush=True)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
