"""What comes first: what sets a comparison apart, the sentence that says most, key numbers, and the verdict table."""

from __future__ import annotations

from collections import Counter
from typing import Any

from detrofit.comparison.latencies import HERE
from detrofit.comparison.report.content import NOTHING, Content, interval_words, p_words, runtime_words, signed
from detrofit.comparison.tables import duration, verdict_words
from detrofit.pages.blocks import Block, Cell, Column, Facts, Notice, Row, Table, Text, Tone

_BADGES: dict[str, tuple[str, Tone]] = {
    "better": ("▲ better", "good"),
    "worse": ("▼ worse", "bad"),
    "same within the margin": ("= same", "strong"),
    "cannot tell": ("? cannot tell", "soft"),
}


def read_first(content: Content) -> list[Block]:
    """What makes a comparison one of more than a swap: settings, other tools; then warnings and notes on the data."""
    lines = [line for each in content.lines for line in _differences(each)]
    lines += [("", _sentence(text)) for text in (*content.results["warnings"], *content.results["notes"])]
    return [Notice("Read first", lines)] if lines else []


def _differences(line: dict[str, Any]) -> list[tuple[str, str]]:
    name = f"{line['name']}:"
    if line["kind"] == "external":
        return [(name, "was trained elsewhere; its predictions are scored here, its recipe is not known.")]
    if line["changed_settings"] and line["kind"] == "variant":
        return [(name, f"differs in settings, not in slots alone: {', '.join(line['changed_settings'])}.")]
    return []


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else f"{text}."


def lead(content: Content) -> str:
    """The outcome in a sentence."""
    own = [each for each in content.comparisons if each["kind"] != "control"]
    if not own:
        return "Nothing could be compared with the base."
    counts = Counter(each["verdict"]["word"] for each in own)
    margin = f"{content.results['settings']['margin']:g} AP"
    words = {
        "better": "better than the base",
        "worse": "worse than the base",
        "same within the margin": f"the same as the base within {margin}",
        "cannot tell": "not told from the base yet",
    }
    if len(own) == 1:
        return f"{own[0]['name']} is {words[own[0]['verdict']['word']]}."
    found = [
        f"{counts[word]} {'is' if counts[word] == 1 else 'are'} {text}" for word, text in words.items() if counts[word]
    ]
    listed = found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"
    return f"Of {len(own)} compared, {listed}."


def facts(content: Content) -> Facts:
    """What was compared, on what, and how much went into it."""
    results = content.results
    done = sum(line["done"] for line in content.lines)
    failed = sum(len(line["failed"]) for line in content.lines)
    tested = [run["test_pictures"] for run in content.runs(content.base["name"])]
    objects = results["data"].get("objects", {}).get("AP")
    size = [f"{pictures:,} pictures" for pictures in tested[:1]]
    size += [f"{objects:,} objects"] if objects is not None else []
    rows = [
        ("base", content.base.get("model") or NOTHING),
        ("data", results["data"]["name"]),
        (f"verdict on '{results['settings']['test_split']}'", ", ".join(size) or NOTHING),
        ("seeds", str(len(results["settings"]["seeds"]))),
        ("margin, chosen before", f"{results['settings']['margin']:g} AP"),
        ("runs", f"{done}" + (f", and {failed} failed" if failed else "")),
        ("compute in all", duration(3600 * results["total_hours"])),
        ("made", f"{results['date']}, Detrofit {results['detrofit']}"),
        ("on", results["machine"]),
    ]
    return Facts(rows)


def verdict_blocks(content: Content) -> list[Block]:
    """The table of verdicts, and how to read it."""
    columns = [
        Column("variant"), Column("verdict", numeric=False), Column("difference, corrected interval"),
        Column("test AP"), Column("p, sign-flip p"), Column("seeds"),
    ]  # fmt: skip
    fastest = _fastest(content)
    columns += [Column("GFLOPs")] + ([Column(f"latency, {runtime_words(*fastest)}")] if fastest else [])
    compared = {each["name"]: each for each in content.comparisons}
    rows = [
        Row(_cells(content, line, compared.get(line["name"]), fastest), content.series[line["name"]])
        for line in content.lines
    ]
    alpha = content.results["settings"]["alpha"]
    how = (
        f"Differences in AP points, of 100, over the seeds that variant and base share. The corrected interval is at "
        f"{1 - alpha:.0%} over seeds and test pictures, widened for the number of variants (Holm); a variant is better "
        f"or worse where it excludes 0, and the same where it lies within the margin. Controls are not counted, for "
        f"nobody claims them. Costs are ratios to the base. {content.results['reach']}."
    )
    return [Table("Verdicts", columns, rows), Text(how, note=True)]


def _cells(
    content: Content, line: dict[str, Any], each: dict[str, Any] | None, fastest: tuple[str, str] | None
) -> list[Cell | str]:
    name = Cell(line["name"], small=content.series[line["name"]].note)
    mean = _mean(line)
    if each is None:
        state = Cell("reference", tone="soft") if line is content.base else Cell("no finished run", tone="soft")
        cells: list[Cell | str] = [name, state, NOTHING, mean, NOTHING, str(line["done"])]
    else:
        verdict = each["verdict"]
        difference = each["metrics"]["AP"]["difference"]
        badge, tone = _BADGES[verdict["word"]]
        more = verdict_words(each).partition(" (")[2].rstrip(")")
        cells = [
            name,
            Cell(badge, small=more, tone=tone, badge=True),
            Cell(signed(difference), small=interval_words(verdict["interval"]), tone="strong", value=difference),
            mean,
            Cell(p_words(verdict["p_value"]), small=_exact(verdict), value=verdict["p_value"]),
            str(len(each["seeds"])),
        ]
    cells.append(_ratio(line["costs"].get("gflops"), content.base["costs"].get("gflops")))
    if fastest:
        timed = content.latencies()[fastest]
        cells.append(_timed_ratio(timed.get(line["name"]), timed[_base(content)]))
    return cells


def _exact(verdict: dict[str, Any]) -> str:
    return p_words(verdict["sign_flip"]) + ("" if verdict["sign_flip_counts"] else ", not asked")


def _mean(line: dict[str, Any]) -> Cell:
    if line["AP_mean"] is None:
        return Cell(NOTHING)
    sd = "" if line["AP_sd"] is None else f"± {line['AP_sd']:.2f}"
    return Cell(f"{line['AP_mean']:.2f}", small=sd, value=line["AP_mean"])


def _ratio(own: float | None, base: float | None) -> Cell:
    if not own or not base:
        return Cell(NOTHING)
    return Cell(f"× {own / base:.2f}", value=own / base)


def _timed_ratio(own: dict[str, Any] | None, base: dict[str, Any]) -> Cell:
    """Round by round where both were timed in the same turns, else of the medians."""
    if own is None:
        return Cell(NOTHING)
    ratio = own["ratio"]["median"] if own["ratio"] else own["total"]["median"] / base["total"]["median"]
    return _ratio(ratio, 1.0)


def _base(content: Content) -> str:
    return str(content.base["name"])


def _fastest(content: Content) -> tuple[str, str] | None:
    """The runtime in which the base is fastest, on the study's own machine if anything was timed there."""
    own = {key: files for key, files in content.latencies().items() if _base(content) in files}
    return min(own, key=lambda key: (key[0] != HERE, own[key][_base(content)]["total"]["median"]), default=None)
