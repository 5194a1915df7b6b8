"""From the records of runs to the results of a study: differences, intervals, verdicts, costs (docs/statistics.md)."""

from __future__ import annotations

import datetime
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from detrofit.comparison.caveats import caveats
from detrofit.comparison.jobs import Record, portable, unpack_resamples
from detrofit.comparison.latencies import HERE, Measurement
from detrofit.comparison.looks import Look, dropped_variants, look_warnings
from detrofit.comparison.splits import StudyData
from detrofit.comparison.statistics import ALPHA, PairedDifference, paired_difference, reachable, verdicts
from detrofit.comparison.study import BASE, Study, Variant
from detrofit.files import write_file
from detrofit.version import __version__

FORMAT = 1
RESULTS = "results.json"
HEADLINE = "AP"
POINTS = 100  # results are in AP points, of 100
CORRECTED = ("variant", "external")  # kinds that Holm counts; a control is no claim
_LINE_KEYS = ("name", "kind", "changes", "changed_settings", "model", "configuration")
_COSTS = (
    "parameters", "gflops", "file_bytes", "train_seconds_per_picture", "peak_memory_bytes", "peak_cuda_bytes", "seconds"
)  # fmt: skip
_START_WORDS = {
    "pretrained": "pretrained:",
    "kept_share_of_parameters": "share of parameters taken over from the starting weights:",
    "warm_started_parts": "parts that imitated what they replace before the training:",
    "lr": "peak learning rate",
    "backbone_lr_factor": "factor of the backbone's learning rate",
    "steps": "steps of training:",
}

Results = dict[str, Any]


def study_results(
    study: Study,
    data: StudyData,
    records: Sequence[Record],
    name: str,
    latency: Sequence[Measurement] = (),
    looks: Sequence[Look] = (),
) -> Results:
    """All that a report needs, plain JSON values; the schema is in docs/statistics.md."""
    lines: list[dict[str, Any]] = [
        {
            "name": each.name,
            "kind": each.kind,
            "changes": each.changes,
            "changed_settings": each.changed_settings,
            "model": each.experiment.model.name,
            "configuration": _configuration(each),
        }
        for each in study.all_variants
    ]
    lines += [{"name": each, "kind": "external", "changes": {}} for each in study.settings.external]
    settings = study.settings.model_dump(mode="json", exclude={"variants", "external", "traded"})
    head = {
        "format": FORMAT,
        "detrofit": __version__,
        "study": name,
        "data": {
            "name": data.path.name,
            "digest": data.digest,
            "classes": list(data.class_names),
            "objects": data.objects,
        },
        "settings": {**settings, "alpha": ALPHA},
        "notes": [*data.notes, *study.notes],
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "looks": list(looks),
    }
    return analyse({**head, "variants": lines, "runs": list(records), "latency": list(latency)})


def _configuration(variant: Variant) -> dict[str, Any]:
    """All settings and every slot with its part's options, resolved, without what is one machine's or one run's."""
    return {key: value for key, value in portable(variant.described).items() if key != "seed"}


def analyse(results: Mapping[str, Any]) -> Results:
    """`results` with all that follows from its runs made anew: lines, comparisons, reach and total compute."""
    runs = [run for run in results["runs"] if run["status"] == "done"]
    variants = [_line(line, results) for line in results["variants"]]
    tried = sum(line["kind"] in CORRECTED for line in variants) + len(dropped_variants(results))
    comparisons = _comparisons(variants, runs, results["settings"], tried)
    seeds = len(results["settings"]["seeds"])
    return {
        **results,
        "date": results.get("date") or str(datetime.date.today()),
        "reach": str(reachable(seeds, max(1, tried), results["settings"]["margin"], results["settings"]["alpha"])),
        "variants": variants,
        "comparisons": comparisons,
        "warnings": [*look_warnings(results), *caveats(variants, runs, comparisons, results["settings"])],
        "total_hours": sum(run.get("seconds", 0.0) for run in results["runs"]) / 3600,
    }


def _line(line: Mapping[str, Any], results: Mapping[str, Any]) -> dict[str, Any]:
    """A variant with the means of its runs."""
    own = [run for run in results["runs"] if run["variant"] == line["name"]]
    done = [run for run in own if run["status"] == "done"]
    base = [run for run in results["runs"] if run["variant"] == BASE and run["status"] == "done"]
    scores = [POINTS * run["test"][HEADLINE] for run in done]
    kept = {key: line.get(key) for key in _LINE_KEYS}
    return kept | {
        "done": len(done),
        "failed": [{"seed": run["seed"], "error": run["error"]} for run in own if run["status"] == "failed"],
        "unequal": _unequal(base[0], done[0]) if base and done else [],
        "AP_mean": float(np.mean(scores)) if scores else None,
        "AP_sd": float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
        "costs": _costs(done) | _own_latency(line["name"], results.get("latency", [])),
    }


def _costs(runs: Sequence[Record]) -> dict[str, float]:
    """The median over runs of each cost that any of them has."""
    values = {key: [run[key] for run in runs if run.get(key) is not None] for key in _COSTS}
    return {key: float(np.median(each)) for key, each in values.items() if each}


def _own_latency(name: str, latency: Sequence[Measurement]) -> dict[str, float]:
    """Milliseconds of the fused model in torch on the machine of the study; `latency` has all else."""
    files = [each for measurement in latency if measurement["source"] == HERE for each in measurement["files"]]
    own = [each for each in files if (each["variant"], each["runtime"]) == (name, "torch")]
    return {"latency_ms": own[0]["total"]["median"]} if own else {}


def _unequal(base: Record, own: Record) -> list[str]:
    """In which ways, other than by what it changes, a variant was trained under other conditions than the base."""
    facts = base.get("start", {}), own.get("start", {})
    lines = [
        f"{words} {_plain(mine)}, the base {_plain(theirs)}"
        for key, words in _START_WORDS.items()
        if (theirs := facts[0].get(key)) != (mine := facts[1].get(key)) and None not in (theirs, mine)
    ]
    machines = [run.get("machine", {}).get("precision") for run in (base, own)]
    if machines[0] != machines[1] and None not in machines:
        lines.append(f"trained in {machines[1]}, the base in {machines[0]}")
    return lines


def _plain(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _comparisons(
    variants: Sequence[Mapping[str, Any]], runs: Sequence[Record], settings: Mapping[str, Any], tried: int
) -> list[dict[str, Any]]:
    """A comparison for each variant with pairs; `tried` counts also those without, and those that were left out."""
    pairs = {line["name"]: _pairs(line, runs) for line in variants if line["name"] != BASE}
    compared = [line for line in variants if pairs.get(line["name"])]
    headline = {line["name"]: _difference(pairs[line["name"]], HEADLINE) for line in compared}
    found: list[dict[str, Any]] = []
    groups = [(tried, [line for line in compared if line["kind"] in CORRECTED])]
    groups += [(1, [line]) for line in compared if line["kind"] not in CORRECTED]
    for count, group in groups:
        judged = verdicts([headline[line["name"]] for line in group], settings["margin"], settings["alpha"], count)
        for line, verdict in zip(group, judged, strict=True):
            pair = pairs[line["name"]]
            found.append(
                {
                    "name": line["name"],
                    "kind": line["kind"],
                    "seeds": [base["seed"] for base, _ in pair],
                    "verdict": asdict(verdict) | {"interval": list(verdict.interval)},
                    "metrics": {metric: _numbers(_difference(pair, metric)) for metric in _shared_metrics(pair)},
                }
            )
    return found


def _pairs(line: Mapping[str, Any], runs: Sequence[Record]) -> list[tuple[Record, Record]]:
    """Runs of the base and of the variant with the same seed; an external tool's with the base's in order."""
    base = sorted((run for run in runs if run["variant"] == BASE), key=lambda run: run["seed"])
    own = sorted((run for run in runs if run["variant"] == line["name"]), key=lambda run: run["seed"])
    if line["kind"] == "external":
        return list(zip(base, own))
    by_seed = {run["seed"]: run for run in own}
    return [(run, by_seed[run["seed"]]) for run in base if run["seed"] in by_seed]


def _shared_metrics(pairs: Sequence[tuple[Record, Record]]) -> list[str]:
    """The metrics that all runs have, but for those of so few objects that half of the resamples have none."""
    first = pairs[0][0]
    shared = [name for name in first["test"] if all(name in run["test"] for pair in pairs for run in pair)]
    return [name for name in shared if np.isnan(unpack_resamples(first["resamples"][name])).mean() < 0.5]


def _difference(pairs: Sequence[tuple[Record, Record]], metric: str) -> PairedDifference:
    differences = [POINTS * (own["test"][metric] - base["test"][metric]) for base, own in pairs]
    resampled = np.stack(
        [
            unpack_resamples(own["resamples"][metric]) - unpack_resamples(base["resamples"][metric])
            for base, own in pairs
        ],
        axis=1,
    )
    return paired_difference(differences, POINTS * resampled, pairs[0][0]["test_pictures"])


def _numbers(difference: PairedDifference) -> dict[str, Any]:
    """A difference with its 95 % interval, before any correction."""
    return {
        "difference": difference.mean,
        "interval": list(difference.interval()),
        "per_seed": list(difference.per_seed),
        "sd_over_seeds": difference.seed_variance**0.5,
        "sd_over_pictures": difference.image_variance**0.5,
    }


def write_results(results: Results, folder: Path) -> None:
    """Write results.json, which a study goes on from and a report is made of."""
    write_file(folder / RESULTS, json.dumps(results, ensure_ascii=False, indent=1) + "\n")
