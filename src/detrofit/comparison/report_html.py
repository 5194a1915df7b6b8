"""report.html: one file that opens offline, in light and dark, on a desk and on a phone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import yaml

from detrofit.comparison.figures import cost_plot, forest, learning_curves
from detrofit.comparison.tables import duration, verdict_words

_STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1c2024;--soft:#667079;--line:#d9dee3;--panel:#f5f7f9}
@media(prefers-color-scheme:dark){:root{--paper:#15181b;--ink:#e6e9ec;--soft:#98a2ab;--line:#333a41;--panel:#1d2226}}
*{box-sizing:border-box}body{margin:0 auto;max-width:60rem;padding:1.2rem;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,sans-serif}h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.92rem;font-variant-numeric:tabular-nums}
th,td{padding:.35rem .6rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th:first-child,td:first-child,td.text,th.text{text-align:left}th{color:var(--soft);font-weight:600}
.better{color:#2b8a4b;font-weight:700}.worse{color:#cf4436;font-weight:700}.same{font-weight:700}
.note,small,figcaption{color:var(--soft)}figure{margin:0}svg{width:100%;height:auto;min-width:30rem}
pre{background:var(--panel);padding:.7rem;overflow-x:auto;font-size:.85rem;border-radius:.3rem}
svg text{fill:var(--ink);stroke:none;font:13px system-ui,sans-serif}svg .tick{fill:var(--soft);font-size:12px}
svg .axis{stroke:var(--soft)}svg .zero{stroke:var(--ink);stroke-dasharray:4 3}svg .band{fill:var(--soft);opacity:.16}
svg .hit{fill:transparent;stroke:none}svg .mark:hover .hit{fill:var(--soft);opacity:.12}
svg .seed{opacity:.45;stroke:none}
svg .curve:hover polyline{stroke-width:4}
"""
_CLASS = {"better": "better", "worse": "worse", "same within the margin": "same", "cannot tell": "open"}
_COSTS = {
    "parameters": ("parameters, M", 1e-6, ".2f"),
    "gflops": ("GFLOPs", 1.0, ".2f"),
    "file_bytes": ("file, MB", 1e-6, ".1f"),
    "latency_ms": ("latency, ms", 1.0, ".1f"),
    "seconds": ("run, min", 1 / 60, ".1f"),
}

Results = dict[str, Any]
Cell = tuple[str, str] | str  # text, or HTML with the class of its cell


def report_html(studies: Sequence[Results]) -> str:
    """The whole page."""
    title = ", ".join(results["study"] for results in studies)
    body = "".join(_study(results) for results in studies)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}: Detrofit study</title><style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )


def _study(results: Results) -> str:
    sections = [
        f"<h1>{escape(results['study'])}</h1>",
        _settings_first(results),
        _verdict_table(results),
        _notes(results),
        _figure("Differences to the base", _forest(results), _FOREST_CAPTION),
        _figure("AP against latency", cost_plot(results["variants"], "latency_ms", "ms a picture"), _LATENCY_CAPTION),
        _figure("AP against compute", cost_plot(results["variants"], "gflops", "GFLOPs"), "Bars: ±1 sd over seeds."),
        _figure(
            "Learning curves",
            learning_curves(results["runs"], [line["name"] for line in results["variants"]]),
            "Validation AP: mean over seeds; the band reaches from the lowest to the highest seed.",
        ),
        _metric_table(results),
        _cost_table(results),
        _changes(results),
        _run_table(results),
    ]
    return "".join(sections)


_FOREST_CAPTION = (
    "Thick: 95 % interval over seeds and test pictures. Thin: corrected by Holm for the number of variants, on "
    "which the verdict rests. Small dots: single seeds. Band: the margin."
)
_LATENCY_CAPTION = "Fused, in torch on this machine's CPU, batch 1, measured run by run. Bars: ±1 sd of AP over seeds."


def _settings_first(results: Results) -> str:
    """What makes a comparison one of more than a swap comes before its verdict."""
    lines = [
        f"<p><b>{escape(line['name'])}</b> differs from the base in settings, not in slots alone: "
        f"{escape(', '.join(line['changed_settings']))}.</p>"
        for line in results["variants"]
        if line["changed_settings"] and line["kind"] == "variant"
    ]
    return "".join(lines)


def _verdict_table(results: Results) -> str:
    lines = {line["name"]: line for line in results["variants"]}
    base = results["variants"][0]
    rows: list[list[Cell]] = [[base["name"], _mean(base), "", "", str(base["done"]), ("", "text")]]
    for each in results["comparisons"]:
        low, high = each["verdict"]["interval"]
        word = each["verdict"]["word"]
        rows.append(
            [
                each["name"] + _KIND.get(each["kind"], ""),
                _mean(lines[each["name"]]),
                f"{each['metrics']['AP']['difference']:+.2f}",
                f"{low:+.2f} to {high:+.2f}",
                str(len(each["seeds"])),
                (f'<span class="{_CLASS[word]}">{escape(verdict_words(each))}</span>', "text"),
            ]
        )
    return _table(["variant", "AP", "difference", "corrected interval", "seeds", "verdict"], rows)


_KIND = {"control": " (control)", "external": " (trained elsewhere)"}


def _mean(line: dict[str, Any]) -> str:
    if line["AP_mean"] is None:
        return "-"
    return f"{line['AP_mean']:.1f}" + ("" if line["AP_sd"] is None else f" ± {line['AP_sd']:.1f}")


def _notes(results: Results) -> str:
    settings = results["settings"]
    failed = sum(len(line["failed"]) for line in results["variants"])
    lines = [
        f"Margin {settings['margin']:g} AP points, chosen before the runs. {results['reach']}.",
        f"Data {results['data']['name']}, verdict on '{settings['test_split']}'. {results['machine']}, "
        f"detrofit {results['detrofit']}, {results['date']}. Total compute {results['total_hours']:.2f} h"
        + (f"; {failed} runs failed, see below." if failed else "."),
        *results["notes"],
    ]
    return "".join(f'<p class="note">{escape(line)}</p>' for line in lines)


def _forest(results: Results) -> str:
    return forest(results["comparisons"], results["settings"]["margin"]) if results["comparisons"] else ""


def _figure(title: str, svg: str, caption: str) -> str:
    if not svg:
        return ""
    return (
        f'<h2>{escape(title)}</h2><figure><div class="scroll">{svg}</div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _metric_table(results: Results) -> str:
    metrics = list(dict.fromkeys(name for each in results["comparisons"] for name in each["metrics"]))
    rows: list[list[Cell]] = [
        [each["name"], *(_interval(each["metrics"].get(metric)) for metric in metrics)]
        for each in results["comparisons"]
    ]
    if not rows:
        return ""
    heads = ["variant", *(metric.replace("AP/", "") for metric in metrics)]
    note = "<small>Difference with its 95 % interval, before any correction for the number of rows and columns.</small>"
    return f"<h2>By threshold, size and class</h2>{_table(heads, rows)}{note}"


def _interval(numbers: dict[str, Any] | None) -> str:
    if numbers is None:
        return "-"
    low, high = numbers["interval"]
    return f"{numbers['difference']:+.1f} ({low:+.1f} to {high:+.1f})"


def _cost_table(results: Results) -> str:
    rows: list[list[Cell]] = []
    for line in results["variants"]:
        costs = line["costs"]
        cells = [f"{costs[key] * scale:{form}}" if key in costs else "-" for key, (_, scale, form) in _COSTS.items()]
        rows.append([line["name"], *cells])
    note = "<small>Fused model at the study's input size; two operations a multiply-add; medians over runs.</small>"
    return f"<h2>Costs</h2>{_table(['variant', *(head for head, _, _ in _COSTS.values())], rows)}{note}"


def _changes(results: Results) -> str:
    blocks = [
        f"<h3>{escape(line['name'])}</h3><pre>{escape(yaml.safe_dump(line['changes'], sort_keys=False))}</pre>"
        for line in results["variants"]
        if line["changes"]
    ]
    return f"<h2>What each variant changes</h2>{''.join(blocks)}" if blocks else ""


def _run_table(results: Results) -> str:
    rows: list[list[Cell]] = []
    for run in results["runs"]:
        done = run["status"] == "done"
        score = f"{100 * run['test']['AP']:.2f}" if done else "-"
        time = duration(run["seconds"]) if "seconds" in run else "-"
        rows.append([run["variant"], str(run["seed"]), score, time, (escape(run.get("error", "done")), "text")])
    return f"<h2>Every run</h2>{_table(['variant', 'seed', 'test AP', 'time', 'state'], rows)}"


def _table(heads: Iterable[str], rows: Iterable[Sequence[Cell]]) -> str:
    head = "".join(f"<th{' class=text' if name in ('verdict', 'state') else ''}>{escape(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return f"<td>{escape(cell)}</td>"
    return f'<td class="{cell[1]}">{cell[0]}</td>'
