"""The files of a report: results.json, table.csv, table.tex and report.html, all from results alone."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detrofit.comparison.analysis import FORMAT, Results, analyse
from detrofit.comparison.jobs import read_json
from detrofit.comparison.report_html import report_html
from detrofit.errors import DetrofitError
from detrofit.files import write_file

RESULTS = "results.json"
_LATEX = str.maketrans({character: f"\\{character}" for character in "&%$#_{}"} | {"\\": r"\textbackslash{}"})
_METRICS = ("AP", "AP50", "AP75")


def read_results(place: Path) -> Results:
    """The results of a study's folder or of a results.json, with all that follows from its runs made anew."""
    file = place / RESULTS if place.is_dir() else place
    if not file.is_file():
        raise DetrofitError(f"{place} holds no study: it has no {RESULTS}")
    content = read_json(file)
    if content.get("format") != FORMAT or "runs" not in content:
        raise DetrofitError(f"{file} is no results of a study in format {FORMAT}")
    return analyse(content)


def write_reports(studies: Sequence[Results], folder: Path) -> None:
    """Write the report of one study, or of several together, which then has no results.json of its own."""
    if len(studies) == 1:
        write_file(folder / RESULTS, json.dumps(studies[0], ensure_ascii=False, indent=1) + "\n")
    write_file(folder / "table.csv", table_csv(studies))
    write_file(folder / "table.tex", table_tex(studies))
    write_file(folder / "report.html", report_html(studies))


def table_csv(studies: Sequence[Results]) -> str:
    """A row a variant: AP, differences in every metric with 95 % intervals, verdict, costs."""
    rows = [row for results in studies for row in _rows(results)]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _rows(results: Results) -> list[dict[str, Any]]:
    compared = {each["name"]: each for each in results["comparisons"]}
    rows = []
    for line in results["variants"]:
        row = {"study": results["study"], "variant": line["name"], "kind": line["kind"], "runs": line["done"]}
        row |= {"failed": len(line["failed"]), "AP": line["AP_mean"], "AP_sd": line["AP_sd"], **line["costs"]}
        comparison = compared.get(line["name"])
        if comparison:
            verdict = comparison["verdict"]
            row |= {"verdict": verdict["word"], "corrected_low": verdict["interval"][0]}
            row |= {
                "corrected_high": verdict["interval"][1],
                "p": verdict["p_value"],
                "sign_flip_p": verdict["sign_flip"],
            }
            row |= {"further_seeds": verdict["further_seeds"]}
            for metric, numbers in comparison["metrics"].items():
                row |= {f"{metric}_difference": numbers["difference"]}
                row |= {f"{metric}_low": numbers["interval"][0], f"{metric}_high": numbers["interval"][1]}
        rows.append({key: "" if value is None else value for key, value in row.items()})
    return rows


def table_tex(studies: Sequence[Results]) -> str:
    """A booktabs table: AP, differences of AP, AP50 and AP75 with 95 % intervals, parameters, operations, verdict."""
    metrics = _METRICS
    lines = [
        r"% needs \usepackage{booktabs}; differences in AP points with 95\,\% intervals over seeds and test pictures",
        rf"\begin{{tabular}}{{l r {'r ' * len(metrics)}r r l}}",
        r"\toprule",
        "Variant & AP & "
        + " & ".join(rf"$\Delta$AP{metric[2:]}" for metric in metrics)
        + r" & M param. & GFLOPs & Verdict \\",
    ]
    for results in studies:
        lines.append(r"\midrule")
        compared = {each["name"]: each for each in results["comparisons"]}
        lines += [_tex_row(line, compared.get(line["name"]), metrics) for line in results["variants"]]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _tex_row(line: dict[str, Any], comparison: dict[str, Any] | None, metrics: Sequence[str]) -> str:
    cells = [line["name"].translate(_LATEX), "--" if line["AP_mean"] is None else f"{line['AP_mean']:.1f}"]
    for metric in metrics:
        numbers = comparison["metrics"].get(metric) if comparison else None
        cells.append(_tex_difference(numbers) if numbers else "--")
    costs = line["costs"]
    cells.append(f"{costs['parameters'] / 1e6:.2f}" if "parameters" in costs else "--")
    cells.append(f"{costs['gflops']:.2f}" if "gflops" in costs else "--")
    cells.append(comparison["verdict"]["word"] if comparison else "--")
    return " & ".join(cells) + r" \\"


def _tex_difference(numbers: dict[str, Any]) -> str:
    low, high = numbers["interval"]
    return f"${numbers['difference']:+.1f}$ [${low:+.1f}$, ${high:+.1f}$]"
