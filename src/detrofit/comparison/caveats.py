"""What a reader must know before believing the verdicts of a study, from its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from detrofit.comparison.jobs import Record

CUT_OFF = 0.1  # a lowest score from which predictions of another tool look cut off
DOUBTED_SHARE = 0.1  # of the base's AP, below which such predictions look as if they were of something else
Line = Mapping[str, Any]


def caveats(
    variants: Sequence[Line], runs: Sequence[Record], comparisons: Sequence[Line], settings: Mapping[str, Any]
) -> list[str]:
    """A sentence each: of `variants` (the base first), their finished `runs`, and their `comparisons` with the base."""
    found = _unfinished(variants, len(settings["seeds"]))
    for line in variants:
        failed = ", ".join(str(failure["seed"]) for failure in line["failed"])
        if failed:
            found.append(
                f"'{line['name']}' failed with seed {failed}, so that its comparison is over the other seeds alone"
            )
        found += [f"'{line['name']}': {difference}" for difference in line["unequal"]]
        if line["kind"] == "external":
            found += _doubts(line, [run for run in runs if run["variant"] == line["name"]], variants[0]["AP_mean"])
            found += _surplus(line["name"], line["done"], variants[0]["done"])
    return [*found, *_mixed(runs), *_empty(variants[0], comparisons, settings["margin"])]


def _unfinished(variants: Sequence[Line], seeds: int) -> list[str]:
    missing = sum(seeds - line["done"] - len(line["failed"]) for line in variants if line["kind"] != "external")
    if missing <= 0:
        return []
    return [f"the study is not whole: {missing} of its runs are not there yet, and verdicts may change with them"]


def _mixed(runs: Sequence[Record]) -> list[str]:
    """Runs that were made in several ways, which differ by more than variant and seed."""
    machines = [run["machine"] for run in runs if "machine" in run]
    found = []
    precisions = sorted({each["precision"] for each in machines})
    if len(precisions) > 1:
        found.append(f"the runs were made in {' and '.join(precisions)}; train.precision makes them alike")
    versions = sorted({each["torch"] for each in machines if "torch" in each})
    if len(versions) > 1:
        found.append(f"the runs were made with torch {' and '.join(versions)}")
    codes = {run["code"] for run in runs if "code" in run}
    if len(codes) > 1:
        found.append(f"the runs were made with {len(codes)} states of the code of one version")
    return found


def _empty(base: Line, comparisons: Sequence[Line], margin: float) -> list[str]:
    """Verdicts that say nothing, since there was nothing to tell apart."""
    if base["AP_mean"] is not None and base["AP_mean"] <= margin:
        return [
            f"the base reaches AP {base['AP_mean']:.2g}, no more than the margin: a model that finds nothing would be "
            "called the same; train longer"
        ]
    return [
        f"'{each['name']}' has the very numbers of the base with every seed: what it changes seems to have no effect"
        for each in comparisons
        if not any(value for numbers in each["metrics"].values() for value in numbers["per_seed"])
    ]


def _surplus(name: str, files: int, seeds: int) -> list[str]:
    if not 0 < seeds < files:
        return []
    return [f"'{name}' has {files} files, and the base {seeds} runs to pair them with: the first {seeds} are compared"]


def _doubts(line: Mapping[str, Any], runs: Sequence[Record], base: float | None) -> list[str]:
    """What makes predictions of another tool look as if they were not made for these pictures, or not whole."""
    name, found = line["name"], []
    empty = max((run.get("pictures_without_detections", 0) for run in runs), default=0)
    if empty:
        found.append(f"'{name}' has no detection on {empty} of {runs[0]['test_pictures']} test pictures")
    lowest = max((run.get("lowest_score", 0.0) for run in runs), default=0.0)
    if lowest >= CUT_OFF:
        found.append(f"'{name}' has no score below {lowest:.2g}: detections were cut off there, which lowers its AP")
    if base is not None and line["AP_mean"] is not None and line["AP_mean"] < DOUBTED_SHARE * base:
        found.append(
            f"'{name}' reaches AP {line['AP_mean']:.1f} alone: are its image_id, category_id and bbox (x, y, width, "
            "height in pixels of the whole picture) those of this data?"
        )
    return found
