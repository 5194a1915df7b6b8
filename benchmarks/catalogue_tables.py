"""The tables and sentences that the documentation includes, made of the record of `catalogue.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scipy.stats import spearmanr

from detrofit.files import write_file

Row = dict[str, Any]
STOCK = "stock"
NOTICEABLE = 0.1  # of 22 parts timed twice, hours apart, nine in ten moved by less against stock
RUNTIMES = {"torch": "torch", "openvino": "OpenVINO"}
COUNTED = "Latency and memory are not measured yet: `python benchmarks/catalogue.py` on a quiet machine fills them in."


def write_tables(record: dict[str, Any], folder: Path) -> None:
    """`catalogue.md`, the table of all parts, and `catalogue_findings.md`, what it says about rules of thumb."""
    models = list(dict.fromkeys(key.split("/")[0] for key in record["rows"]))
    by_model = {model: _rows(record, model) for model in models}
    lines = [_made(record), ""]
    for model, rows in by_model.items():
        lines += [f"### {model}", "", *_table(rows), ""]
    write_file(folder / "catalogue.md", "\n".join(lines))
    write_file(folder / "catalogue_findings.md", "\n".join(_findings(by_model)) + "\n")


def _rows(record: dict[str, Any], model: str) -> dict[str, Row]:
    prefix = f"{model}/"
    return {key.removeprefix(prefix): row for key, row in record["rows"].items() if key.startswith(prefix)}


def _made(record: dict[str, Any]) -> str:
    settings, rows = record["settings"], record["rows"].values()
    runs = {row["run"] for row in rows}
    dates = " and ".join(sorted({run.split("T")[0] for run in runs}))
    in_runs = "in one run" if len(runs) == 1 else f"in {len(runs)} runs, so that only what stands in a row compares"
    made = f"Made by `benchmarks/catalogue.py` {in_runs}, {dates}, "
    made += f"torch {settings['torch']}, {settings['imgsz']} pixels."
    if not all("torch ms" in row for row in rows if not row["loss"]):
        return f"{made} {COUNTED}"
    return (
        f"{made} {settings['processor']}, {settings['threads']} threads, float32, batch 1, medians of "
        f"{settings['repeats']}, in turn with stock; memory: two updates of {settings['memory']} in a fresh process."
    )


def _table(rows: dict[str, Row]) -> list[str]:
    stock = rows[STOCK]
    return [
        "| part | where | parameters | GFLOPs | torch, fused | OpenVINO | training memory |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(f"| {_linked(name)} | {_where(row)} | {_cells(row, stock)} |" for name, row in rows.items()),
    ]


def _linked(name: str) -> str:
    return name if name == STOCK else f"[{name}]({name}.md)"


def _where(row: Row) -> str:
    return f"`{row['swap'].split('=')[0]}`" if row["swap"] else ""


def _cells(row: Row, stock: Row) -> str:
    def against_stock(ratio: float) -> str:
        percent = f"{ratio - 1:+.0%}"
        return "" if row is stock or percent in ("+0%", "-0%") else f" ({percent})"

    cells = [
        f"{row['parameters'] / 1e6:.2f} M{against_stock(row['parameters'] / stock['parameters'])}",
        f"{row['gflops']:.1f}{against_stock(row['gflops'] / stock['gflops'])}",
    ]
    for kind in RUNTIMES:
        timed = f"{kind} ms" in row
        as_stock = "as stock" if row["loss"] else "not measured"
        cells.append(f"{row[f'{kind} ms']:.0f} ms{against_stock(row[f'{kind} ratio'])}" if timed else as_stock)
    memory = row.get("training MiB")
    cells.append(f"{memory:.0f} MiB{against_stock(memory / stock['training MiB'])}" if memory else "not measured")
    return " | ".join(cells)


def _findings(by_model: dict[str, dict[str, Row]]) -> list[str]:
    """Where one number falls and another rises, and how well each foretells latency."""
    lines, measured = [], True
    for model, rows in by_model.items():
        parts = {name: row for name, row in rows.items() if name != STOCK and not row["loss"]}
        lines += _counted(model, parts, rows[STOCK])
        measured = measured and all("openvino ratio" in row for row in parts.values())
        if measured:
            lines += _timed(model, parts, rows[STOCK])
    return lines if measured else [*lines, "", COUNTED]


def _counted(model: str, parts: dict[str, Row], stock: Row) -> list[str]:
    fewer = {name: row["gflops"] / stock["gflops"] for name, row in _below(parts, stock, "parameters").items()}
    more_operations = {name: ratio for name, ratio in fewer.items() if ratio > 1}
    return [
        f"- `{model}`: {len(fewer)} of {len(parts)} parts have fewer parameters than stock. Of those, "
        f"{_named(more_operations)} need more operations."
    ]


def _timed(model: str, parts: dict[str, Row], stock: Row) -> list[str]:
    lines = []
    for key, what in (("parameters", "parameters"), ("gflops", "operations")):
        below = _below(parts, stock, key)
        for kind, runtime in RUNTIMES.items():
            slower = {
                name: row[f"{kind} ratio"] for name, row in below.items() if row[f"{kind} ratio"] > 1 + NOTICEABLE
            }
            lines.append(
                f"- `{model}`: of the {len(below)} parts with fewer {what}, {_named(slower)} are slower than stock in "
                f"{runtime} by more than {NOTICEABLE:.0%}."
            )
    latency = [row["openvino ratio"] for row in parts.values()]
    correlations = [
        spearmanr([row[key] for row in parts.values()], latency).statistic for key in ("parameters", "gflops")
    ]
    return [
        *lines,
        f"- `{model}`: rank correlation with OpenVINO's latency over these {len(parts)} parts: parameters "
        f"{correlations[0]:.2f}, operations {correlations[1]:.2f}, where 1 would be the same order.",
    ]


def _below(parts: dict[str, Row], stock: Row, key: str) -> dict[str, Row]:
    return {name: row for name, row in parts.items() if row[key] < stock[key]}


def _named(ratios: dict[str, float]) -> str:
    """How many, and each with its ratio as a change, the largest first."""
    if not ratios:
        return "none"
    named = (f"`{name}` {ratios[name] - 1:+.1%}" for name in sorted(ratios, key=lambda name: -ratios[name]))
    return f"{len(ratios)} ({', '.join(named)})"
