"""The record of benchmarks/graft.py as the table and the sentences that docs/graft.md includes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from detrofit.grafting.additivity import tau_text
from detrofit.grafting.library import KEEP

Row = dict[str, Any]
GRAFTS = ("graft", "fewer parameters")
GOAL = {"AP": -0.5, "latency": 0.7, "parameters": 0.6, "work": 1.0}


def table(record: dict[str, Row]) -> str:
    """The rows of docs/graft.md as Markdown, AP on the validation split, of 100; below it what they say together."""
    if not record:
        return "No part has been measured yet."
    names = list(dict.fromkeys(part.split("/")[0] for part in record))
    head = "| data, seed | model | parameters, M | latency | val AP | test AP (less the teacher's) | core minutes |"
    lines = [head, "| --- " * 7 + "|"]
    lines += [f"| {name} | {' | '.join(cells)} |" for name in names for cells in _table_rows(name, record)]
    findings = [f"- {name}: {line}" for name in names for line in _findings(name, record)]
    kinds = dict.fromkeys(name.rsplit("-", 1)[0] for name in names)
    findings += [line for kind in kinds for line in _agreement(kind, record)]
    machines = sorted({f"{row['machine']}, {row['threads']} threads, {row['date']}" for row in record.values()})
    return "\n".join([*lines, "", *findings, "", f"Measured on {'; '.join(machines)}."])


def _findings(name: str, record: dict[str, Row]) -> Iterator[str]:
    """What the graft of a teacher says, and how well sums order what is measured."""
    for step in GRAFTS:
        grafted = record.get(f"{name}/{step}", {})
        if grafted.get("missed"):
            yield grafted["missed"]
        if "verdict" in grafted:
            yield grafted["verdict"]
            yield from _goal(name, step, record)
            yield from _promises(grafted)
    yield from _made_again(record.get(f"{name}/test", {}).get("made again", {}))
    for when in ("before", "after"):
        tau = record.get(f"{name}/assemblies", {}).get(f"tau {when} fine-tuning")
        if tau:
            yield (
                f"Kendall's tau of predicted and measured loss {when} fine-tuning, {tau['number']} assemblies: "
                + tau_text(tau)
            )


def _made_again(models: Row) -> Iterator[str]:
    """Models of the test split that are not those of the validation split, but made anew as they were."""
    for name, each in models.items():
        now, before = (100 * each[key] for key in ("val AP", "recorded"))
        yield f"{name} was made again for the test split: AP {now:.2f} on the validation split, recorded {before:.2f}"


def _promises(grafted: Row) -> Iterator[str]:
    """What sums promised of latency and loss, and what was measured."""
    assembled = sorted(grafted["assembled"], key=lambda each: -each["cost"]["ratio"])
    if assembled:
        teacher = grafted["teacher"]["cost"]["latency"]
        promised = ", ".join(f"{each['predicted_latency'] / teacher:.2f}" for each in assembled)
        measured = ", ".join(f"{each['cost']['ratio']:.2f}" for each in assembled)
        yield f"latency of what was assembled: {promised} expected, {measured} measured"
    if grafted["tau"]:
        yield f"Kendall's tau of predicted and measured loss of what was assembled: {tau_text(grafted['tau'])}"


def _goal(name: str, step: str, record: dict[str, Row]) -> Iterator[str]:
    """What was aimed at, and how far the chosen graft is from it, the teacher fine-tuned where the graft is."""
    grafted = record[f"{name}/{step}"]
    winner = next((each for each in grafted["assembled"] if each["name"] == grafted["winner"]), None)
    trained = record.get(f"{name}/teacher")
    if winner is None or trained is None:
        return
    tested, label = record.get(f"{name}/test", {}), winner["name"]
    found = _less(winner["score"]["ap"], trained["val AP"], tested, f"{label}, no fine-tuning", "teacher")
    if winner["finished"]:
        tuned = _less(winner["finished"]["ap"], grafted["finished_teacher"]["ap"], tested, label, KEEP)
        found += f", fine-tuned as the teacher {tuned}"
    size = winner["cost"]["parameters"] / grafted["teacher"]["cost"]["parameters"]
    steps = dict.fromkeys(("graft", step))  # whose library it took, and its own
    work = sum(record[f"{name}/{each}"]["minutes"] for each in steps) / trained["minutes"]
    yield (
        f"aimed at: at least {GOAL['AP']:+.1f} AP against the teacher, at most {GOAL['latency']:.2f} of its latency, "
        f"{GOAL['parameters']:.2f} of its parameters, {GOAL['work']:.2f} of its training's work; {winner['name']} has "
        f"AP {found}, latency {winner['cost']['ratio']:.2f}, parameters {size:.2f}, work {work:.2f}"
    )


def _less(ap: float, teacher: float, tested: Row, label: str, other: str) -> str:
    """A difference of AP on the validation split and, where both were scored there, on the test split."""
    found = f"{100 * (ap - teacher):+.1f}"
    if label not in tested or other not in tested:
        return found
    return f"{found} (test split: {100 * (tested[label]['AP'] - tested[other]['AP']):+.1f})"


def _agreement(kind: str, record: dict[str, Row]) -> list[str]:
    """How much the choices of the seeds of a data set have in common, by candidates and by slots."""
    parts = [part for part in record if part.startswith(f"{kind}-") and part.endswith("/graft")]
    chosen = [_winner_keys(record[part]) for part in parts]
    if len(chosen) < 2:
        return []
    slots = [{key.partition("=")[0] for key in keys} for keys in chosen]
    return [
        f"- {kind}: of the {what} that either of two seeds chose both chose {_shared(sets)} ({len(chosen)} seeds)"
        for what, sets in (("candidates", chosen), ("slots", slots))
    ]


def _shared(chosen: list[set[str]]) -> str:
    """The share that two have in common, over all pairs; two that keep the original agree."""
    shares = [len(a & b) / len(a | b) if a | b else 1.0 for a, b in itertools.combinations(chosen, 2)]
    return f"{min(shares):.2f} to {max(shares):.2f}, mean {sum(shares) / len(shares):.2f}"


def _winner_keys(grafted: Row) -> set[str]:
    return {key for each in grafted["assembled"] if each["name"] == grafted["winner"] for key in each["keys"]}


def _table_rows(name: str, record: dict[str, Row]) -> Iterator[list[str]]:
    row = partial(_row, record.get(f"{name}/test", {}))
    if trained := record.get(f"{name}/teacher"):
        yield row("teacher", trained["val AP"], test="teacher", minutes=trained["minutes"], **_size(trained))
    for label, score in record.get(f"{name}/control", {}).items():
        if isinstance(score, dict) and "ap" in score and label != "original":
            yield row(f"{label}: random numbers, no training", score["ap"])
    for step in GRAFTS:
        grafted = record.get(f"{name}/{step}", {})
        if step == "graft" and grafted.get("finished_teacher"):
            yield row("teacher, fine-tuned as the grafts", grafted["finished_teacher"]["ap"], test=KEEP)
        for each in grafted.get("assembled", ()):
            label = f"{step}: {'chosen' if each['name'] == grafted['winner'] else 'assembled'} {each['name']}"
            yield from _before_and_after(row, label, each["name"], each)
    start = f"{name}/replaced "
    for label in [part.removeprefix(start) for part in record if part.startswith(start)]:
        yield from _passes(row, f"{label}: all replaced", record[start + label])
    for label, each in record.get(f"{name}/assemblies", {}).get("random", {}).items():
        yield from _before_and_after(row, f"random {label}", label, each)
    for label, each in record.get(f"{name}/knobs", {}).get("knobs", {}).items():
        yield row(f"{label}, fine-tuned", each["finished"]["ap"], each["cost"], test=f"{label}, uniform")
    for part, rival in record.items():
        if part.startswith(f"{name}/rival ") and "val AP" in rival:  # no setting of the free knobs may be fast enough
            label = part.partition("/rival ")[2]
            cost = record.get(f"{name}/rivals timed", {}).get(label)
            yield row(label, rival["val AP"], cost, test=f"rival {label}", minutes=rival["minutes"], **_size(rival))
            if finished := record.get(f"{name}/rivals finished", {}).get(label):
                yield row(f"{label}, fine-tuned", finished["ap"], cost, test=f"{label}, fine-tuned", **_size(rival))


def _passes(row: Callable[..., list[str]], label: str, replaced: Row) -> Iterator[list[str]]:
    """All slots of a kind replaced: after either pass of local training, and after fine-tuning."""
    yield row(f"{label}, first pass", replaced["first pass alone"]["ap"])
    cost, tested = replaced["cost"], f"{replaced['name']}, uniform"
    yield row(f"{label}, both passes", replaced["both passes"]["ap"], cost, test=f"{tested}, no fine-tuning")
    if replaced.get("fine-tuned"):
        yield row(f"{label}, fine-tuned", replaced["fine-tuned"]["ap"], cost, test=tested)


def _before_and_after(row: Callable[..., list[str]], label: str, name: str, each: Row) -> Iterator[list[str]]:
    """An assembly before and after fine-tuning; the test split knows it by its name."""
    yield row(label, each["score"]["ap"], each["cost"], test=f"{name}, no fine-tuning")
    if each["finished"]:
        yield row(f"{label}, fine-tuned", each["finished"]["ap"], each["cost"], test=name)


def _row(
    tested: Row, label: str, ap: float | None, cost: Row | None = None, *, test: str = "", minutes: float | None = None,
    parameters: int | None = None, ratio: float | None = None,
) -> list[str]:  # fmt: skip
    """The cells of a line."""
    latency = "" if ratio is None else f"{ratio:.2f}"
    if cost:
        parameters = cost["parameters"]
        latency = f"{cost['ratio']:.2f} ({cost['ratio_low']:.2f} to {cost['ratio_high']:.2f})"
    return [
        label,
        f"{parameters / 1e6:.2f}" if parameters else "",
        latency,
        "-" if ap is None or math.isnan(ap) else f"{100 * ap:.1f}",  # of what does not answer in numbers
        _tested(tested, test),
        "" if minutes is None else f"{minutes:.1f}",
    ]


def _tested(tested: Row, label: str) -> str:
    """AP on the test split, with the interval of its difference to the teacher's over drawings of the pictures."""
    if label not in tested:
        return ""
    found = f"{100 * tested[label]['AP']:.1f}"
    interval = tested[label].get("less the teacher's")
    if interval is None or label == "teacher":
        return found
    return f"{found} ({100 * interval[0]:+.1f} to {100 * interval[1]:+.1f})"


def _size(row: Row) -> Row:
    return {"parameters": row["parameters"], "ratio": row.get("ratio")}
