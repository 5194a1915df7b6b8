"""What the grafts of benchmarks/graft.py are held against: random assemblies, equal compute, the free knobs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from graft_bench import BLOCKS, EXTRADW, Bench, Row, read_record, scored

from detrofit.errors import DetrofitError
from detrofit.grafting.assemble import find_candidates
from detrofit.grafting.choice import Choice
from detrofit.grafting.cost import Cost, cost_models
from detrofit.grafting.finish import finish, retrofit_of
from detrofit.grafting.library import KEEP, trained_student
from detrofit.grafting.score import Score, Scorer
from detrofit.grafting.swap_sets import draw_candidates
from detrofit.grafting.workshop import Workshop
from detrofit.model.build import assemble
from detrofit.model.costs import count_parameters
from detrofit.model.detector import RTDETR
from detrofit.model.fuse import fuse
from detrofit.parts.retrofit import parse_retrofit
from detrofit.randomness import derive_seed
from detrofit.training.run_folder import BEST
from detrofit.weights.model_file import load_model, read_info, save_model
from detrofit.weights.truncate import truncated

TRAINED = (
    "teacher trained longer",
    "the chosen parts from random numbers",
    "all ExtraDW from random numbers",
    "uniformly narrower",
)
RIVALS = ("free knobs", *TRAINED)
FINISHED = "rivals finished"  # a step, and its folder


def random_choices(
    workshop: Workshop, costs: dict[str, Cost], scores: dict[str, Score], limit: float, count: int
) -> list[Choice]:
    """Random candidates for all slots that by their sums take at most that share of the latency."""
    generator = np.random.default_rng(derive_seed(workshop.settings.seed, "random assemblies"))
    found: dict[tuple[str, ...], Choice] = {}
    for _ in range(100_000):
        drawn = draw_candidates(workshop.slots, generator)
        keys = tuple(each.key for each in drawn if math.isfinite(scores[each.key].total))
        if keys and 1 + sum(costs[key].ratio - 1 for key in keys) <= limit:
            found[keys] = Choice(keys, sum(scores[key].total for key in keys), {})
        if len(found) == count:
            break
    return list(found.values())


def rival(bench: Bench, label: str) -> Row:
    """What else could be had for the compute of a teacher and a whole graft; the free knobs for nothing.

    All train as long as the first of them did, so that they can be held against each other, too.
    """
    grafted = bench.row("graft")
    held = reference(grafted)
    if label == "free knobs":
        return _best_knobs(bench, grafted["knobs"], held["cost"]["ratio"])
    changes: dict[str, Any] = {}
    if label == "the chosen parts from random numbers":
        changes = {"retrofit": retrofit_of(_untrained(bench, held["keys"]))}
    elif label == "all ExtraDW from random numbers":
        changes = {"retrofit": {BLOCKS: EXTRADW}}
    elif label == "uniformly narrower":
        changes = {"retrofit": {"backbone": _narrower(bench, count_parameters(_untrained(bench, held["keys"])))}}
    return scored(bench.train(f"rival {label}", **{**changes, "train.epochs": _epochs(bench, grafted)}))


def rivals_timed(bench: Bench) -> Row:
    """The latency of each trained rival, in turns with the teacher, as that of grafts."""
    workshop = bench.tool("rivals timed")
    teacher = Cost(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0, 0)  # milliseconds are in units of its own
    costs, _ = cost_models(workshop, _trained(bench), {KEEP: teacher}, {})
    return {label: asdict(cost) for label, cost in costs.items()}


def rivals_finished(bench: Bench) -> Row:
    """Each trained rival after the short fine-tuning that grafts have, on the same teacher's queries."""
    workshop = bench.tool(FINISHED)
    finished = finish(workshop, Scorer(workshop), _trained(bench), bench.finish_epochs)
    return {label: asdict(each["score"]) for label, each in finished.items()}


def _trained(bench: Bench) -> dict[str, Path]:
    """The model files of the trained rivals; DetrofitError where one has not been done."""
    for label in TRAINED:
        bench.row(f"rival {label}")
    return {label: bench.folder / f"rival {label}" / BEST for label in TRAINED}


def reference(grafted: Row) -> Row:
    """The graft that rivals are held against: the winner or, where the original won, the fastest that was tried."""
    assembled = {each["name"]: each for each in grafted["assembled"]}
    if not assembled:
        raise DetrofitError("nothing was assembled that a rival could be held against")
    return assembled.get(grafted["winner"]) or min(assembled.values(), key=lambda each: each["cost"]["ratio"])


def _best_knobs(bench: Bench, points: list[Row], ratio: float) -> Row:
    """The teacher with fewer queries, layers or pixels that is no slower than the graft; empty if there is none."""
    within = [each for each in points if each["ratio"] <= ratio]
    if not within:
        return {}
    best = max(within, key=lambda each: each["ap"])
    model = truncated(load_model(bench.teacher), num_queries=best["num_queries"], decoder_layers=best["decoder_layers"])
    file = bench.folder / "rival free knobs" / BEST
    save_model(file, model, replace(read_info(bench.teacher), input_size=tuple(best["imgsz"])))
    return {"val AP": best["ap"], "parameters": count_parameters(fuse(model)), **best}


def _untrained(bench: Bench, keys: Sequence[str]) -> RTDETR:
    """The graft of these candidates before they learn anything; no file of the step `graft` is needed."""
    workshop = bench.tool()
    return trained_student(workshop.teacher, find_candidates(workshop, keys), {})


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


def _epochs(bench: Bench, grafted: Row) -> int:
    """Those of the first rival that was trained; for it, what takes as much work as the teacher and the whole graft."""
    rows = read_record(bench.record)
    known = (rows[part]["epochs"] for label in TRAINED if (part := f"{bench.name}/rival {label}") in rows)
    trained = bench.row("teacher")
    extra = math.ceil(grafted["minutes"] / (trained["minutes"] / trained["epochs"]))
    return next(known, trained["epochs"] + extra)
