"""Looks: what a study was judged with before. Seeds, variants or a margin that were changed after a verdict was seen
make the next one less sure than a first one (docs/statistics.md)."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping
from typing import Any

Look = dict[str, Any]


def with_look(results: Mapping[str, Any]) -> dict[str, Any]:
    """Results that remember that they were seen, if they have verdicts that were not seen before."""
    looks, now = list(results.get("looks", [])), _look(results)
    if now["variants"] and not any({**each, "date": now["date"]} == now for each in looks):
        looks.append(now)
    return {**results, "looks": looks}


def dropped_variants(results: Mapping[str, Any]) -> list[str]:
    """Variants that an earlier look judged, on the same terms, and that are no longer there; Holm counts them."""
    here = _contents(results)
    judged = [each for look in _earlier(results) for each in look["variants"].items()]
    dropped = {_content(*each): each[0] for each in judged if _content(*each) not in here}
    return list(dropped.values())


def look_warnings(results: Mapping[str, Any]) -> list[str]:
    """How this look differs from earlier ones, a sentence each."""
    dropped = [
        f"'{name}' was tried in this study and left out later; it counts among the variants tried"
        for name in dropped_variants(results)
    ]
    return [*_other_seeds(results), *_other_margin(results), *dropped]


def _other_seeds(results: Mapping[str, Any]) -> list[str]:
    here, settings = _contents(results), results["settings"]
    looks = [look for look in _earlier(results) if here & {_content(*each) for each in look["variants"].items()}]
    seeds = dict.fromkeys(tuple(look["seeds"]) for look in looks if look["seeds"] != settings["seeds"])
    if not seeds:
        return []
    return [
        f"verdicts on these variants were seen before, with {', '.join(str(len(each)) for each in seeds)} seeds: each "
        f"look adds its own {100 * settings['alpha']:.0f} %, and a false verdict in any of them has a chance of up to "
        f"{100 * settings['alpha'] * (len(seeds) + 1):.0f} %"
    ]


def _other_margin(results: Mapping[str, Any]) -> list[str]:
    first, margin = next(iter(_earlier(results)), None), results["settings"]["margin"]
    if first is None or first["margin"] == margin:
        return []
    return [
        f"the margin was {first['margin']:g} AP when these runs were first judged, and is {margin:g} now: one that is "
        "chosen after the results were seen proves nothing"
    ]


def _earlier(results: Mapping[str, Any]) -> list[Look]:
    """Looks at the same base on the same data that share seeds with this study."""
    terms, seeds = _terms(results), set(results["settings"]["seeds"])
    return [look for look in results.get("looks", []) if look["terms"] == terms and seeds & set(look["seeds"])]


def _look(results: Mapping[str, Any]) -> Look:
    judged = [each["name"] for each in results["comparisons"] if each["kind"] != "control"]
    return {
        "date": str(datetime.date.today()),
        "terms": _terms(results),
        "seeds": list(results["settings"]["seeds"]),
        "margin": results["settings"]["margin"],
        "variants": {line["name"]: line["changes"] for line in results["variants"] if line["name"] in judged},
    }


def _terms(results: Mapping[str, Any]) -> str:
    """A digest of the base and the data, wherever that is; with others the study is another one."""
    configuration = results["variants"][0].get("configuration") or {}
    base = {key: value for key, value in configuration.items() if key != "data"}
    content = [results["data"]["digest"], results["settings"]["test_split"], base]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _contents(results: Mapping[str, Any]) -> set[str]:
    return {_content(line["name"], line["changes"]) for line in results["variants"]}


def _content(name: str, changes: Mapping[str, Any]) -> str:
    """What a variant is, whatever it is called; another tool is known by its name alone."""
    return json.dumps(changes, sort_keys=True) if changes else name
