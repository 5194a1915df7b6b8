"""The results as tables: CSV for programs, LaTeX with booktabs for papers, Markdown for pages of text."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from detrofit.comparison.report.content import Content, runtime_words
from detrofit.pages.blocks import slug

_ESCAPES = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''", "[": "{[}", "\n": " ", "−": "$-$",
}  # fmt: skip
_LATEX = str.maketrans(_ESCAPES)
_MARKDOWN = str.maketrans({**{character: f"\\{character}" for character in r"\`*_[]<>|~&"}, "\n": " "})
_METRICS = ("AP", "AP50", "AP75")
_VERDICT_WORDS = {"same within the margin": "same"}
_SPREAD = {"": "median", "_low": "low", "_high": "high", "_p90": "p90"}


def table_csv(content: Content) -> str:
    """A row a variant: AP, verdict, differences in every metric with 95 % intervals, costs, latencies."""
    rows = [_csv_row(content, line) for line in content.lines]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _csv_row(content: Content, line: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"study": content.results["study"], "variant": line["name"], "kind": line["kind"]}
    row |= {"runs": line["done"], "failed": len(line["failed"]), "AP": line["AP_mean"], "AP_sd": line["AP_sd"]}
    row |= line["costs"]
    comparison = next((each for each in content.comparisons if each["name"] == line["name"]), None)
    if comparison:
        verdict = comparison["verdict"]
        low, high = verdict["interval"]
        row |= {"verdict": verdict["word"], "corrected_low": low, "corrected_high": high, "p": verdict["p_value"]}
        row |= {"sign_flip_p": verdict["sign_flip"], "further_seeds": verdict["further_seeds"]}
        for metric, numbers in comparison["metrics"].items():
            row |= {f"{metric}_difference": numbers["difference"]}
            row |= {f"{metric}_low": numbers["interval"][0], f"{metric}_high": numbers["interval"][1]}
    for (source, runtime), files in content.latencies().items():
        if line["name"] in files:
            name = f"latency_{slug(f'{source} {runtime}').replace('-', '_')}_ms"
            total = files[line["name"]]["total"]
            row |= {f"{name}{end}": total[key] for end, key in _SPREAD.items()}
    return {key: "" if value is None else value for key, value in row.items()}


def escape(text: str) -> str:
    """A text that LaTeX sets as it stands."""
    return text.translate(_LATEX)


def escape_markdown(text: str) -> str:
    """A text that a cell of a Markdown table shows as it stands."""
    return text.translate(_MARKDOWN)


@dataclass(frozen=True)
class _Form:
    """How a table that people read writes its cells."""

    escape: Callable[[str], str]
    differences: tuple[str, ...]  # the heads, of _METRICS
    spread: str
    difference: str
    missing: str


_TEX_FORM = _Form(
    escape,
    (r"$\Delta$AP", r"$\Delta$AP$_{50}$", r"$\Delta$AP$_{75}$"),
    r"{:.1f} $\pm$ {:.1f}",
    "${:+.1f}$ $[{:+.1f}, {:+.1f}]$",
    "--",
)
_MARKDOWN_FORM = _Form(
    escape_markdown, ("ΔAP", "ΔAP50", "ΔAP75"), "{:.1f} ± {:.1f}", "{:+.1f} ({:+.1f} to {:+.1f})", ""
)


def table_tex(content: Content) -> str:
    """A booktabs table: AP, differences with 95 % intervals, parameters, operations, latencies, verdict."""
    head, *rows = _cells(content, _TEX_FORM)
    settings = content.results["settings"]
    lines = [
        "% \\usepackage{booktabs}",
        f"% Differences to the first row in AP points, with 95 % intervals over {len(settings['seeds'])} seeds and the",
        f"% test pictures; verdicts after Holm's correction; margin {settings['margin']:g} AP.",
        rf"\begin{{tabular}}{{l{'r' * (len(head) - 2)}l}}",
        r"\toprule",
        rf"{' & '.join(head)} \\",
        r"\midrule",
        *(rf"{' & '.join(cells)} \\" for cells in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def table_md(content: Content) -> str:
    """The same table in GitHub's Markdown."""
    head, *rows = _cells(content, _MARKDOWN_FORM)
    rule = ["---", *["---:"] * (len(head) - 2), "---"]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, rule, *rows))


def _cells(content: Content, form: _Form) -> list[list[str]]:
    """The head and a line a variant."""
    timed = list(content.latencies())
    heads = [
        "Variant", "AP", *form.differences, "Params (M)", "GFLOPs",
        *(f"{form.escape(runtime_words(*key))} (ms)" for key in timed), "Verdict",
    ]  # fmt: skip
    return [heads, *(_line_cells(content, line, timed, form) for line in content.lines)]


def _line_cells(content: Content, line: Mapping[str, Any], timed: list[tuple[str, str]], form: _Form) -> list[str]:
    comparison = next((each for each in content.comparisons if each["name"] == line["name"]), None)
    metrics = comparison["metrics"] if comparison else {}
    costs = line["costs"]
    latencies = [content.latencies()[key].get(line["name"]) for key in timed]
    return [
        form.escape(line["name"]),
        _mean(line, form),
        *(_difference(metrics.get(metric), form) for metric in _METRICS),
        f"{costs['parameters'] / 1e6:.2f}" if "parameters" in costs else form.missing,
        f"{costs['gflops']:.2f}" if "gflops" in costs else form.missing,
        *(f"{file['total']['median']:.2f}" if file else form.missing for file in latencies),
        _verdict(comparison["verdict"]["word"]) if comparison else form.missing,
    ]


def _mean(line: Mapping[str, Any], form: _Form) -> str:
    if line["AP_mean"] is None:
        return form.missing
    return f"{line['AP_mean']:.1f}" if line["AP_sd"] is None else form.spread.format(line["AP_mean"], line["AP_sd"])


def _difference(numbers: Mapping[str, Any] | None, form: _Form) -> str:
    return form.missing if numbers is None else form.difference.format(numbers["difference"], *numbers["interval"])


def _verdict(word: str) -> str:
    return _VERDICT_WORDS.get(word, word)
