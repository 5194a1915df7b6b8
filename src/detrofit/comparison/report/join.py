"""Several studies of one base on one data set as one: more variants, more seeds, one correction for all of them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from detrofit.comparison.analysis import Results, analyse
from detrofit.comparison.jobs import is_done
from detrofit.comparison.latencies import HERE
from detrofit.comparison.report.changes import differing
from detrofit.comparison.statistics import MOST_SEEDS
from detrofit.errors import DetrofitError

_SAME = {"margin": "margin", "resamples": "number of resamples", "test_split": "split of the verdict", "alpha": "alpha"}


def join_studies(studies: Sequence[Results]) -> Results:
    """One study with the variants and the seeds of all; a run that several have counts once.

    Variants of one name are the same variant, and must change the same. DetrofitError, naming every reason, where
    bases, data or the terms of the verdict differ.
    """
    for one, other in itertools.combinations(studies, 2):
        reasons = _reasons(one, other)
        if reasons:
            names = f"'{one['study']}' and '{other['study']}'"
            raise DetrofitError(f"studies {names} cannot be joined: {'; '.join(reasons)}")
    first = studies[0]
    all_runs = sorted((run for results in reversed(studies) for run in results["runs"]), key=is_done)
    runs = {(run["variant"], run["seed"]): run for run in all_runs}  # of two records the finished, then the first
    variants = {line["name"]: line for results in reversed(studies) for line in results["variants"]}
    ordered = dict.fromkeys(line["name"] for results in studies for line in results["variants"])
    seeds = sorted({seed for results in studies for seed in results["settings"]["seeds"]})
    if len(seeds) > MOST_SEEDS:
        raise DetrofitError(f"together these are {len(seeds)} seeds; the sign-flip test is exact up to {MOST_SEEDS}")
    return analyse(
        {
            **first,
            "study": " + ".join(dict.fromkeys(results["study"] for results in studies)),
            "date": max(results["date"] for results in studies),
            "settings": {**first["settings"], "seeds": seeds},
            "notes": list(dict.fromkeys(note for results in studies for note in results["notes"])),
            "machine": "; ".join(dict.fromkeys(results["machine"] for results in studies)),
            "variants": [variants[name] for name in ordered],
            "runs": list(runs.values()),
            "latency": _latencies(studies),
            "looks": [look for results in studies for look in results.get("looks", [])],
        }
    )


def _reasons(first: Results, other: Results) -> list[str]:
    """Why two studies cannot be one, each in a few words."""
    reasons = []
    if first["data"]["digest"] != other["data"]["digest"]:
        reasons.append(f"the data differ ('{first['data']['name']}', '{other['data']['name']}')")
    reasons += [
        f"the {words} differs ({first['settings'].get(key)}, {other['settings'].get(key)})"
        for key, words in _SAME.items()
        if first["settings"].get(key) != other["settings"].get(key)
    ]
    reasons += _different("the bases", first["variants"][0], other["variants"][0])
    lines = {line["name"]: line for line in first["variants"][1:]}
    for line in other["variants"][1:]:
        if line["name"] in lines:
            reasons += _different(f"what '{line['name']}' is", lines[line["name"]], line)
    return reasons + _other_runs(first, other)


def _different(what: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    if one["kind"] != other["kind"]:
        return [f"{what} differs: {one['kind']}, {other['kind']}"]
    rows = differing(one.get("configuration") or one["changes"], other.get("configuration") or other["changes"])
    keys = [key for key, _, _ in rows if key != "data"]  # its name, where the digest tells its content
    return [f"{what} differ in {', '.join(keys)}"] if keys else []


def _other_runs(first: Results, other: Results) -> list[str]:
    """A run of one name and seed in both must be the same run; failed ones do not count."""
    done = {(run["variant"], run["seed"]): run["identity"] for run in first["runs"] if is_done(run)}
    clash = sorted(
        f"{run['variant']} seed {run['seed']}"
        for run in other["runs"]
        if is_done(run) and done.get((run["variant"], run["seed"]), run["identity"]) != run["identity"]
    )
    return [f"both have a run of {clash[0]}, and not the same"] if clash else []


def _latencies(studies: Sequence[Results]) -> list[dict[str, Any]]:
    """Measurements of one device stay apart, for times of two sittings do not compare."""
    found: list[dict[str, Any]] = []
    for results in studies:
        for measurement in results.get("latency", []):
            if measurement in found:
                continue
            found.append({**measurement, "source": _free_name(measurement["source"], results["study"], found)})
    return found


def _free_name(source: str, study: str, found: Sequence[Mapping[str, Any]]) -> str:
    """What a measurement is called among others: as it was, or with its study's name, and a number at need."""
    taken = {each["source"] for each in found}
    own = study if source == HERE else f"{study}, {source}"
    names = itertools.chain((source, own), (f"{own} ({number})" for number in itertools.count(2)))
    return next(name for name in names if name not in taken)
