"""The measurements behind docs/graft.md: teachers, controls, grafts, rivals at equal compute, how far it carries.

    python benchmarks/graft.py --data FOLDER [--runs runs/graft] [--teachers runs/results] [--only cards-0 ...] [--list]
    python benchmarks/graft.py --table > docs/tables/graft.md

FOLDER holds bccd (Pascal VOC), cards (YOLO) and deeppcb (COCO). A part is DATA-SEED/STEP; they come in the order of how
much they tell, and `--only` takes beginnings of their names. A finished part is in benchmarks/graft.json and is not
done again; one that was stopped goes on where it was, and one that cannot be done is told in a line, before the next is
begun. Teachers are trained as benchmarks/results.py trains; those that it has trained are taken from its folder
`--teachers`. What replaces a kind of block everywhere is trained once for all parts that need it, and what a graft's
library holds serves every budget and all random assemblies.

`--steps` and `--batch` of the local training, `--rounds` of timing and `--finish` epochs are for a quick look, best
with a `--record` of its own. Everything is chosen on validation splits. The step `test` comes last and is the only one
that looks at the test split. Minutes are those of one core at work. Parts of two teachers can be done side by side, but
what times models (everything but `teacher`, `control` and the trained rivals) wants the machine to itself.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import results
import torch
from graft_again import AGAIN, made_again
from graft_bench import (
    BLOCKS,
    EXTRADW,
    FINISH_EPOCHS,
    NARROW,
    NECK,
    RECORD,
    SETS,
    STEPS_OF_LOCAL_TRAINING,
    TOOL,
    Bench,
    Row,
    read_record,
    scored,
)
from graft_knobs import SMALLER, with_knobs
from graft_rivals import FINISHED, RIVALS, random_choices, rival, rivals_finished, rivals_timed
from graft_tables import table

from detrofit.config.load import load_experiment
from detrofit.data.open import open_dataset
from detrofit.deployment.latency import describe_machine
from detrofit.errors import DetrofitError
from detrofit.evaluation.drawn_ap import difference_interval, drawn_ap
from detrofit.evaluation.predictions import Predictions
from detrofit.files import write_file
from detrofit.grafting.additivity import kendall_tau
from detrofit.grafting.assemble import assemble_choices, model_file
from detrofit.grafting.budget import BudgetError, parse_budget
from detrofit.grafting.choice import Choice
from detrofit.grafting.clock import now_and_then
from detrofit.grafting.cost import Cost, cost_library
from detrofit.grafting.expectation import expected_costs
from detrofit.grafting.finish import finish
from detrofit.grafting.graft import GraftResult, graft
from detrofit.grafting.library import KEEP, Candidate
from detrofit.grafting.runs import first_difference
from detrofit.grafting.score import Scorer, score_library, settled
from detrofit.grafting.training import States, train_library
from detrofit.grafting.workshop import Workshop
from detrofit.parts.retrofit import expand_address
from detrofit.training.run_folder import BEST, METRICS, RunFolder, read_config
from detrofit.training.score import score_file
from detrofit.training.state import FILE as STATE

UNIFORM: dict[str, Any] = {"slots": (BLOCKS, NECK), "candidates": (EXTRADW, NARROW)}  # one candidate a slot
BUDGET, FEWER_PARAMETERS = "0.7x", "0.6xparams"
RANDOM_ASSEMBLIES = 5
FEWEST_FOR_TAU = 8  # assemblies, the best few among them
REPLACED = {
    "stages 3 and 4": ("backbone.stage[3,4].block",),
    "all stages": (BLOCKS,),
    "neck": (NECK,),
    "stage 4": ("backbone.stage4.block",),
    "stages 2 to 4": ("backbone.stage[2,3,4].block",),
    "stage 3": ("backbone.stage3.block",),
    "stage 2": ("backbone.stage2.block",),
    "stage 1": ("backbone.stage1.block",),
}
CONTROLS = ("stages 3 and 4", "all stages", "neck")
KNOBS_OF = (("stages 3 and 4",), ("stages 3 and 4", "neck"))
# Where a teacher's models are, and what is added to their names on the test split to tell them apart.
FOLDERS = {"graft": "", AGAIN: "", "uniform": ", uniform", SMALLER: ", uniform", FINISHED: ", fine-tuned"}
TUNED = (*CONTROLS, "stage 4", "stages 2 to 4")  # the growing share of the backbone, and the neck


def teacher(bench: Bench) -> Row:
    """Train the teacher, or copy what benchmarks/results.py trained alike, unless either has been done or begun."""
    known, minutes = bench.known_teacher, bench.teacher.with_name("minutes")
    begun = any(bench.teacher.with_name(name).exists() for name in (BEST, STATE))
    if known is not None and (known / BEST).exists() and not begun:
        _copy_teacher(bench, known, minutes)
    row = scored(bench.train("teacher"))
    return row | ({"minutes": float(minutes.read_text())} if minutes.exists() else {})


def _copy_teacher(bench: Bench, known: Path, minutes: Path) -> None:
    """Copy a finished training, its model last, and note what it took; DetrofitError where it is another one."""
    wanted, found = load_experiment(bench.values()), read_config(known)
    # What `auto` found there is not told by its configuration; without a network it is nothing.
    if difference := first_difference(found, wanted.model_copy(update={"weights": found.weights})):
        raise DetrofitError(f"{known} was trained with another '{difference}'; leave --teachers out")
    taken = read_record(results.RECORD).get(known.name, {}).get("core minutes")
    if taken is None:
        raise DetrofitError(f"{results.RECORD} does not tell what {known} took; leave --teachers out")
    RunFolder(bench.teacher.parent, writes=True).write_config(wanted)
    write_file(bench.teacher.with_name(METRICS), (known / METRICS).read_bytes())
    write_file(minutes, str(taken))
    write_file(bench.teacher, (known / BEST).read_bytes())


def control(bench: Bench) -> Row:
    """Slots filled with random numbers: what a graft without any training is worth."""
    workshop = bench.workshop("uniform", **UNIFORM)
    scorer = Scorer(workshop)
    rows = {label: asdict(scorer.score(settled(workshop, _all_of(workshop, label), {}))) for label in CONTROLS}
    return {**rows, "original": asdict(scorer.teacher)}


def replaced(bench: Bench, label: str) -> Row:
    """Every slot of a kind filled with one candidate: after the first pass, after the second, and after fine-tuning."""
    workshop = bench.workshop("uniform", **UNIFORM)
    scorer = Scorer(workshop)
    states, errors = train_library(workshop)
    scores, costs = score_library(workshop, scorer, states), _costs(workshop, states)
    chosen = _all_of(workshop, label)
    choice = Choice(tuple(each.key for each in chosen), math.nan, {})
    (made,) = assemble_choices(workshop, scorer, [choice], states, costs, scores)
    row = {
        "name": made.name,
        "imitation errors": {key: errors[key] for key in choice.keys},
        "first pass alone": asdict(scorer.score(settled(workshop, chosen, states))),
        "both passes": asdict(made.score),
        "predicted loss": made.predicted_loss,
        "cost": asdict(made.cost),
        "cost of the original": asdict(costs[KEEP]),
    }
    if bench.finish_epochs and label in TUNED:  # the teacher, fine-tuned alike, is among the results of `graft`
        finished = finish(workshop, scorer, {made.name: made.file}, bench.finish_epochs)
        row["fine-tuned"] = _after(finished, made.name)
    return row


def knobs(bench: Bench) -> Row:
    """Fewer pixels, queries and layers of the teacher, the graft that keeps most, and the fastest that it can be."""
    workshop = bench.workshop("uniform", **UNIFORM)
    scorer = Scorer(workshop)
    states, _ = train_library(workshop)
    scores, costs = score_library(workshop, scorer, states), _costs(workshop, states)
    sources = {"teacher": bench.teacher}
    for kinds in KNOBS_OF:
        keys = tuple(each.key for label in kinds for each in _all_of(workshop, label))
        (made,) = assemble_choices(workshop, scorer, [Choice(keys, math.nan, {})], states, costs, scores)
        sources[" and ".join(kinds)] = made.file
    return with_knobs(bench, workshop, sources)


def whole(bench: Bench) -> Row:
    """The tool under the budget of latency, with fine-tuning of its front and of the teacher.

    Where nothing meets the budget, what is nearest is noted, and the front at several levels takes its place.
    """
    try:
        result = _whole(bench, BUDGET)
    except BudgetError as error:
        return _told(_whole(bench)) | {"missed": str(error).partition(" with ")[0]}
    if result.results["winner"] != KEEP:
        return _told(result) | {"missed": None}
    return _told(_whole(bench)) | {"missed": result.results["verdict"]}


def asked_for(bench: Bench, budget: str) -> Row:
    """The same graft under another budget: nothing of its library is trained, scored or timed again."""
    bench.row("graft")
    try:
        return _told(_whole(bench, budget)) | {"missed": None}
    except BudgetError as error:
        return {"missed": str(error).partition(" with ")[0]}


def _whole(bench: Bench, *budgets: str) -> GraftResult:
    changes = {"budgets": tuple(map(parse_budget, budgets)), "finish_epochs": bench.finish_epochs}
    settings = bench.settings(**{**changes, "knobs": bench.is_first, **TOOL})
    return graft(bench.teacher, bench.path, bench.folder / "graft", settings)


def _told(result: GraftResult) -> Row:
    kept = ("verdict", "winner", "assembled", "teacher", "finished_teacher", "control", "corrections", "tau", "hours",
            "knobs")  # fmt: skip
    alone = {each["key"]: {"score": each["score"], "ratio": each["cost"]["ratio"]}
             for each in result.results["candidates"]}  # fmt: skip
    return {key: result.results[key] for key in kept} | {"alone": alone, "looks": result.results["search"]["looks"]}


def assemblies(bench: Bench) -> Row:
    """Random assemblies within the budget, trained as the chosen ones, and Kendall's tau over all of them.

    Where nothing that was put together meets the budget, they are within half of what the fastest saves.
    """
    grafted = bench.row("graft")
    workshop = bench.tool()
    states, _ = train_library(workshop)
    scorer = Scorer(workshop)
    scores, costs = score_library(workshop, scorer, states), _costs(workshop, states)
    fastest = min((each["cost"]["ratio"] for each in grafted["assembled"]), default=1.0)
    met = grafted["missed"] is None and grafted["winner"] != KEEP
    limit = parse_budget(BUDGET).amount if met else (1 + fastest) / 2
    number = max(RANDOM_ASSEMBLIES, FEWEST_FOR_TAU - len(grafted["assembled"]))
    drawn = random_choices(workshop, costs, scores, limit, number)
    made = assemble_choices(workshop, scorer, drawn, states, costs, scores)
    names = {each.name for each in made} | {each["name"] for each in grafted["assembled"]}
    files = {name: model_file(workshop, name) for name in sorted(names)}
    finished = finish(workshop, scorer, files, bench.finish_epochs) if bench.finish_epochs else {}
    random = {each.name: {"keys": each.keys, "predicted_loss": each.predicted_loss, "score": asdict(each.score),
                          "cost": asdict(each.cost), "finished": _after(finished, each.name)}
              for each in made}  # fmt: skip
    together = [*random.values(), *({**each, "finished": _after(finished, each["name"])}
                                    for each in grafted["assembled"] if each["name"] not in random)]  # fmt: skip
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
    """Over those that answer in numbers."""
    pairs = [(each["predicted_loss"], each[score]["total"]) for each in entries]
    sound = [pair for pair in pairs if None not in pair and all(map(math.isfinite, pair))]
    return kendall_tau([predicted for predicted, _ in sound], [measured for _, measured in sound])


def test(bench: Bench) -> Row:
    """Every model of this teacher on the test split, once; of a graft that is gone, what was chosen of it."""
    again, files = made_again(bench), {"teacher": bench.teacher}  # which comes first: others are held against it
    for folder, note in FOLDERS.items():
        for path in sorted((bench.folder / folder / "assemblies").glob("*.safetensors")):
            files[f"{path.stem}{note}, no fine-tuning"] = path
        for path in sorted((bench.folder / folder / "finish").glob(f"*/{BEST}")):
            files[path.parent.name.rpartition("-")[0] + note] = path
    files |= {path.parent.name: path for path in sorted(bench.folder.glob(f"rival */{BEST}"))}
    index, rows, drawn = open_dataset(bench.path).split("test"), Row(), Row()
    for label, file in files.items():
        out, evaluation = score_file(file, bench.path, "test", workers=0, out=bench.folder / "test" / label)
        assert evaluation is not None
        drawn[label] = drawn_ap(index, Predictions.read(out / "predictions.json", index))
        rows[label] = {key: evaluation.summary[key] for key in ("AP", "AP50")}
        rows[label]["less the teacher's"] = difference_interval(drawn["teacher"], drawn[label])
    return rows | ({"made again": again} if again else {})


STEPS: dict[str, Callable[[Bench], Row]] = {
    "teacher": teacher,
    "control": control,
    **{f"replaced {label}": partial(replaced, label=label) for label in CONTROLS},
    "graft": whole,
    "fewer parameters": lambda bench: asked_for(bench, FEWER_PARAMETERS),
    "assemblies": assemblies,
    "knobs": knobs,
    **{f"rival {label}": partial(rival, label=label) for label in RIVALS},
    "rivals timed": rivals_timed,
    FINISHED: rivals_finished,
    **{f"replaced {label}": partial(replaced, label=label) for label in REPLACED if label not in CONTROLS},
    "test": test,
}
ALL = ("teacher", "control", "graft")  # of every teacher, before the first has its later steps
LATER = tuple(STEPS)[tuple(STEPS).index("assemblies") : -1]


def parts() -> Iterator[str]:
    """Every part's name in the order in which they are done: what tells most first, the test split last.

    The first teacher has all steps, the others those that show whether the same is found again.
    """
    first, *others = (f"{kind}-{seed}" for kind, (_, _, seeds, _) in SETS.items() for seed in seeds)
    yield from (f"{first}/{step}" for step in STEPS if step not in (*LATER, "test"))
    yield from (f"{other}/{step}" for other in others for step in ALL)
    yield from (f"{first}/{step}" for step in STEPS if step in LATER)
    yield from (f"{name}/test" for name in (first, *others))


def _costs(workshop: Workshop, states: States) -> dict[str, Cost]:
    """Those that the tool chooses by."""
    return expected_costs(cost_library(workshop, states), workshop.slots)


def _all_of(workshop: Workshop, label: str) -> list[Candidate]:
    """The candidates of all slots of a kind, which have one each."""
    kinds = tuple(single for address in REPLACED[label] for single in expand_address(address))
    return [slot.candidates[0] for slot in workshop.slots if slot.address.startswith(kinds)]


def _do(part: str, bench: Bench) -> None:
    """Do a part and write its row; core minutes are those of this sitting and of stopped ones before it."""
    step = part.split("/")[1]
    clock = bench.folder / f"{step}.minutes"
    before = float(clock.read_text()) if clock.exists() else 0.0
    started = results.core_minutes()
    with now_and_then(lambda: write_file(clock, str(before + results.core_minutes() - started))):
        row = STEPS[step](bench)
    facts = {
        "local": bench.local,
        "minutes": float(clock.read_text()),
        "date": str(datetime.date.today()),
        "threads": torch.get_num_threads(),
        "machine": describe_machine()["processor"],
    }
    write_file(bench.record, json.dumps({**read_record(bench.record), part: {**facts, **row}}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/graft"))
    parser.add_argument("--teachers", type=Path, help="the folder of benchmarks/results.py's runs")
    parser.add_argument("--only", nargs="*", default=[], help="beginnings of parts' names")
    parser.add_argument("--list", action="store_true", help="name all parts, and which are done")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--steps", type=int, default=STEPS_OF_LOCAL_TRAINING)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--runtime", choices=("openvino", "onnxruntime", "torch"), default="openvino")
    parser.add_argument("--finish", type=int, default=FINISH_EPOCHS)
    parser.add_argument("--record", type=Path, default=RECORD)
    arguments = parser.parse_args()
    if arguments.table:
        print(table(read_record(arguments.record)))
        return
    if arguments.data is None and not arguments.list:
        parser.error("give --data FOLDER")
    failed = False
    for part in parts():
        done = part in read_record(arguments.record)
        wanted = not arguments.only or any(part.startswith(each) for each in arguments.only)
        if arguments.list:
            print(f"{'done' if done else '    '} {part}")
        elif wanted and not done:
            print(part, flush=True)
            try:
                _do(part, Bench(part.split("/")[0], arguments))
            except DetrofitError as error:
                failed = True
                print(f"{part} cannot be done: {error}", file=sys.stderr, flush=True)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
