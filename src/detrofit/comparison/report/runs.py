"""Every run of a study, also the failed ones, and the compute that went into them."""

from __future__ import annotations

from typing import Any

from detrofit.comparison.report.content import NOTHING, Content
from detrofit.comparison.tables import duration
from detrofit.pages.blocks import Block, Cell, Column, Fold, Row, Table, Text

_MOST_OPEN = 40


def run_blocks(content: Content) -> list[Block]:
    """A table with a row a run."""
    runs = content.results["runs"]
    columns = [
        Column("variant"), Column("seed"), Column("test AP"), Column("validation AP"), Column("time"),
        Column("state", numeric=False),
    ]  # fmt: skip
    order = list(content.by_name)
    rows = [_row(content, run) for run in sorted(runs, key=lambda run: (order.index(run["variant"]), run["seed"]))]
    table = Table("Every run", columns, rows, compact=True)
    failed = sum(run["status"] != "done" for run in runs)
    text = f"{len(runs)} runs, {failed} of them failed; {duration(3600 * content.results['total_hours'])} of computing."
    return [Text(text), Fold("Every run", [table], open=len(rows) <= _MOST_OPEN)]


def _row(content: Content, run: dict[str, Any]) -> Row:
    done = run["status"] == "done"
    test = 100 * run["test"]["AP"] if done else None
    val = 100 * run["val_AP"] if done and "val_AP" in run else None
    seconds = run.get("seconds")
    cells: list[Cell | str] = [
        Cell(run["variant"]),
        str(run["seed"]),
        *(Cell(NOTHING if value is None else f"{value:.2f}", value=value) for value in (test, val)),
        Cell(NOTHING if seconds is None else duration(seconds), value=seconds),
        Cell("done", tone="soft") if done else Cell(f"failed: {run['error']}", tone="bad"),
    ]
    return Row(cells, content.series[run["variant"]])
