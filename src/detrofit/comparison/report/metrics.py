"""Differences by IoU threshold, size and class, with the number of objects that each rests on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from detrofit.comparison.report.content import NOTHING, Content, interval_words, signed
from detrofit.pages.blocks import Block, Cell, Column, Fold, Row, Table, Text, Tone

_MOST_OPEN = 24  # classes; of more the table is folded
_WORDS = {"AP": "all objects", "AP50": "all, at IoU 0.5", "AP75": "all, at IoU 0.75"}


def metric_blocks(content: Content) -> list[Block]:
    """A table of thresholds and sizes, one of classes; nothing where nothing was compared."""
    if not content.comparisons:
        return []
    metrics = list(dict.fromkeys(name for each in content.comparisons for name in each["metrics"]))
    classes = [metric for metric in metrics if metric.startswith("AP/")]
    whole = [metric for metric in metrics if metric not in classes]
    number = len(metrics) * len(content.comparisons)
    note = (
        "Under each difference its own 95 % interval, not corrected for the number of rows and columns: of "
        f"{number} such intervals about {number * 0.05:.0f} would exclude 0 by chance. To look at, not to claim. "
        "Coloured: the interval excludes 0. Base: its mean over seeds."
    )
    if len(classes) <= _MOST_OPEN:
        return [_table(content, "Differences by threshold, size and class", metrics), Text(note, note=True)]
    by_class = _table(content, "Differences by class", classes)
    return [
        _table(content, "Differences by threshold and size", whole),
        Text(note, note=True),
        Fold(f"All {len(classes)} classes", [by_class]),
    ]


def _table(content: Content, caption: str, metrics: Sequence[str]) -> Table:
    names = [each["name"] for each in content.comparisons]
    columns = [Column("AP of"), Column("objects"), Column("base"), *(Column(name) for name in names)]
    return Table(caption, columns, [_row(content, metric) for metric in metrics], compact=len(metrics) > 12)


def _row(content: Content, metric: str) -> Row:
    count = content.results["data"].get("objects", {}).get("AP" if metric in _WORDS else metric)
    cells = [
        Cell(_name(metric)),
        Cell(NOTHING if count is None else f"{count:,}", value=count),
        _base_value(content, metric),
        *(_difference(each["metrics"].get(metric)) for each in content.comparisons),
    ]
    return Row(cells)


def _name(metric: str) -> str:
    if metric.startswith("AP/"):
        return metric.removeprefix("AP/")
    return _WORDS.get(metric, f"{metric.removeprefix('AP_')} objects")


def _base_value(content: Content, metric: str) -> Cell:
    values = [run["test"][metric] for run in content.runs(content.base["name"]) if metric in run["test"]]
    if not values:
        return Cell(NOTHING)
    mean = 100 * float(np.mean(values))
    return Cell(f"{mean:.1f}", value=mean)


def _difference(numbers: dict[str, Any] | None) -> Cell:
    if numbers is None:
        return Cell(NOTHING)
    low, high = numbers["interval"]
    tone: Tone = "good" if low > 0 else "bad" if high < 0 else ""
    text = signed(numbers["difference"], 1)
    return Cell(text, small=interval_words(numbers["interval"], 1), tone=tone, value=numbers["difference"])
