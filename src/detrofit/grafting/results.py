"""What a graft found, as results.json, as model files of the front, and in a sentence."""

from __future__ import annotations

import datetime
import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from detrofit.files import write_file
from detrofit.grafting.additivity import SumError, kendall_tau
from detrofit.grafting.assemble import Assembled
from detrofit.grafting.budget import limits
from detrofit.grafting.cost import Cost, LibraryCosts, timing_machine
from detrofit.grafting.library import KEEP, Candidate
from detrofit.grafting.score import LEAST_LOSS, SURE, Score, Scorer
from detrofit.grafting.verdict import verdict
from detrofit.grafting.workshop import Workshop
from detrofit.version import __version__

RESULTS, PAGE, FRONT = "results.json", "report.html", "front"
Results = dict[str, Any]


def front_of(assembled: Sequence[Assembled]) -> list[Assembled]:
    """Those than which no other, nor the teacher, is as good in score and better in latency, fastest last."""
    kept = []
    assembled = [each for each in assembled if each.sound]
    for each in assembled:
        others = [(other.score.total, other.cost.ratio) for other in assembled if other is not each] + [(0.0, 1.0)]
        point = (each.score.total, each.cost.ratio)
        if not any(all(a <= b for a, b in zip(other, point)) and other != point for other in others):
            kept.append(each)
    return sorted(kept, key=lambda each: -each.cost.ratio)


def kept_of(assembled: Sequence[Assembled], winner: Assembled | None) -> list[Assembled]:
    """What is handed over: the front, and the winner, which a budget of parameters may take from behind it."""
    front = front_of(assembled)
    return front if winner is None or winner in front else [*front, winner]


def make_results(
    workshop: Workshop, scorer: Scorer, control: Score, errors: Mapping[str, float], scores: Mapping[str, Score],
    library: LibraryCosts, assembled: Sequence[Assembled], sums: Mapping[str, SumError],
    finished: Mapping[str, Mapping[str, Any]], knobs: Sequence[Mapping[str, Any]],
) -> Results:  # fmt: skip
    """The content of results.json."""
    sound, teacher = [each for each in assembled if each.sound], library.single[KEEP]
    _note_untimed(workshop, assembled)
    winner = winner_of(workshop, assembled, teacher, control)
    kept = kept_of(assembled, winner)
    results: Results = {
        "format": 1,
        "detrofit": __version__,
        "date": str(datetime.date.today()),
        "machine": timing_machine(workshop),
        "teacher": {
            "file": workshop.file.name,
            "score": _numbers(asdict(scorer.teacher)),
            "cost": asdict(teacher),
            "input_size": list(workshop.size),
        },
        "settings": json.loads(json.dumps(asdict(workshop.settings), default=str)),
        "search": {
            "split": workshop.search.split,
            "pictures": len(workshop.search),
            "boxes": len(workshop.search.labels),
            "looks": workshop.looks,
        },
        "notes": workshop.notes,
        "control": _numbers(asdict(control)),
        "candidates": [
            _candidate(each, errors[each.key], scores[each.key], library.single[each.key])
            for slot in workshop.slots
            for each in slot.candidates
        ],
        "sets": [{"keys": list(keys), "cost": asdict(cost)} for keys, cost in library.sets.items()],
        "assembled": [_model(each, finished, each in kept) for each in assembled],
        "corrections": {kind: each.factor for kind, each in sums.items()},
        "tau": kendall_tau([each.predicted_loss for each in sound], [each.score.total for each in sound]),
        "finished_teacher": _finished_score(finished, KEEP),
        "knobs": list(knobs),
        "hours": workshop.record("hours.json"),
        "winner": winner.name if winner else KEEP,
    }
    results["verdict"] = verdict(results)
    _write_front(workshop, kept, finished)
    return results


def _candidate(candidate: Candidate, error: float, score: Score, cost: Cost) -> Results:
    return {
        "slot": candidate.slot,
        "candidate": candidate.name,
        "key": candidate.key,
        "imitation_error": _number(error),
        "score": _numbers(asdict(score)),
        "cost": asdict(cost),
    }


def _model(each: Assembled, finished: Mapping[str, Mapping[str, Any]], kept: bool) -> Results:
    return {
        "name": each.name,
        "keys": list(each.keys),
        "predicted_loss": each.predicted_loss,
        "predicted_latency": each.predicted_latency,
        "score": _numbers(asdict(each.score)),
        "cost": asdict(each.cost),
        "timed": each.timed,
        "finished": _finished_score(finished, each.name),
        "file": f"{FRONT}/{each.name}.safetensors" if kept else None,
        "file_is_finished": kept and is_better_finished(each, finished),
    }


def _note_untimed(workshop: Workshop, assembled: Sequence[Assembled]) -> None:
    bench, lacking = workshop.settings.bench, [each.name for each in assembled if not each.timed]
    if bench is not None and lacking:
        workshop.note(
            f"{bench.name} has no times of {', '.join(lacking)}: theirs are sums over single swaps; time all files of "
            "the folder exports on the device again, and give the new file with --bench"
        )


def write_results(workshop: Workshop, results: Results) -> Path:
    """Write results.json and the page; the recommended model file."""
    from detrofit.grafting.page import graft_page
    from detrofit.pages.render import render_page

    write_file(workshop.folder / RESULTS, json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    write_file(workshop.folder / PAGE, render_page(graft_page(results)))
    if results["winner"] == KEEP:
        return workshop.file
    return workshop.folder / FRONT / f"{results['winner']}.safetensors"


def winner_of(workshop: Workshop, assembled: Sequence[Assembled], teacher: Cost, control: Score) -> Assembled | None:
    """The least loss within the budgets as measured; with none given, the fastest that keeps what the slots are worth.

    That is one that loses no more than chance may be, and for sure less than `LEAST_LOSS` of what random numbers in all
    slots lose: on few pictures chance alone would excuse nearly any loss. None where the original is best: it is within
    the budgets and nothing loses less, or nothing is faster for sure, and no budget asks for fewer parameters.
    """
    of_teacher = {"latency": teacher.latency, "parameters": float(teacher.parameters)}
    limit = limits(workshop.settings.budgets, of_teacher)
    within = [
        each
        for each in assembled
        if each.sound
        and teacher.latency * each.cost.ratio <= limit.get("latency", math.inf)
        and each.cost.parameters <= limit.get("parameters", math.inf)
        and ("parameters" in limit or each.cost.ratio_high < 1)
    ]
    if not limit:
        within = [each for each in within if _keeps_its_worth(each.score, control)]
        return min(within, key=lambda each: each.cost.ratio, default=None)
    best = min(within, key=lambda each: each.score.total, default=None)
    original_will_do = all(of_teacher[kind] <= most for kind, most in limit.items())
    return None if best is not None and original_will_do and best.score.total >= 0 else best


def _keeps_its_worth(score: Score, control: Score) -> bool:
    most, limit = score.loss + SURE * score.loss_error, LEAST_LOSS * abs(control.loss)
    return score.loss <= SURE * score.loss_error and not most > limit  # where random numbers answer in none: no limit


def is_better_finished(each: Assembled, finished: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a model was fine-tuned and has no lower AP since, on the split that chose among its epochs, too."""
    return each.name in finished and bool(finished[each.name]["score"].ap >= each.score.ap)


def _write_front(workshop: Workshop, kept: Sequence[Assembled], finished: Mapping[str, Mapping[str, Any]]) -> None:
    """Model files: fine-tuned where that was asked for and brought something."""
    folder = workshop.folder / FRONT
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for each in kept:
        source = finished[each.name]["file"] if is_better_finished(each, finished) else each.file
        partial = folder / f".{each.name}.tmp"
        shutil.copyfile(source, partial)
        os.replace(partial, folder / f"{each.name}.safetensors")


def _finished_score(finished: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, float | None] | None:
    return _numbers(asdict(finished[name]["score"])) if name in finished else None


def _numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    return {key: _number(value) for key, value in values.items()}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
