"""An evaluation as tables on a terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from detrofit.evaluation.coco import SIZES

if TYPE_CHECKING:
    from rich.console import Console

    from detrofit.evaluation.evaluate import Evaluation


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Print what was evaluated, the main numbers, and a row for each class and each size."""
    summary = evaluation.summary
    console.print(
        f"[bold]{evaluation.split}[/]: {_count(summary['images'], 'image')} "
        f"({summary['background_images']:.0f} background), {_count(summary['objects'], 'object')}",
        highlight=False,
    )
    console.print(_numbers_line(summary, ("AP", "AP50", "AP75", "AR1", "AR10", "AR100")), highlight=False)
    console.print(_operating_line(evaluation), highlight=False)
    console.print(_class_table(evaluation))
    console.print(_size_table(evaluation))


def _operating_line(evaluation: Evaluation) -> str:
    numbers = _numbers_line(evaluation.summary, ("precision", "recall", "f1"))
    line = f"{numbers}  at score {evaluation.operating_point.threshold:.3f}, IoU 0.5"
    background = evaluation.background
    if background.pictures:
        line += f"; {background.per_picture:.2f} false alarms a background image"
    return line


def _class_table(evaluation: Evaluation) -> Table:
    numbers = ("AP", "AP50", "AP75", "AR100", "precision", "recall", "f1", "best_threshold")
    table = _table("class", ("images", "objects", *numbers))
    for row in evaluation.per_class:
        table.add_row(Text(row["class"]), str(row["images"]), str(row["objects"]), *_cells(row, numbers))
    return table


def _size_table(evaluation: Evaluation) -> Table:
    numbers = ("AP", "AP50", "AP75", "AR100")
    table = _table("size", ("objects", *numbers))
    bounds = dict(zip(SIZES, ("below 32 x 32", "32 x 32 to 96 x 96", "above 96 x 96"), strict=True))
    for row in evaluation.per_size:
        table.add_row(f"{row['size']} [dim]({bounds[row['size']]} px)[/]", str(row["objects"]), *_cells(row, numbers))
    return table


def _table(first: str, others: Sequence[str]) -> Table:
    table = Table(header_style="bold", box=None, pad_edge=False)
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name.replace("_", " "), justify="right")
    return table


def _cells(row: dict[str, Any], names: Sequence[str]) -> list[str]:
    return ["-" if math.isnan(row[name]) else f"{row[name]:.3f}" for name in names]


def _numbers_line(numbers: dict[str, float], names: Sequence[str]) -> str:
    return "  ".join(f"{name} [bold]{numbers[name]:.3f}[/]" if name in numbers else f"{name} -" for name in names)


def _count(number: float, noun: str) -> str:
    return f"{number:,.0f} {noun}{'' if number == 1 else 's'}"


def print_by_size(evaluations: Mapping[str, Evaluation], console: Console) -> None:
    """AP and AR100 by object size of one split that was looked at in several ways, side by side with the counts."""
    numbers = ("AP", "AR100")
    table = _table("size", ("objects", *(f"{number} {name}" for number in numbers for name in evaluations)))
    sizes = zip(*(({"size": "all", **each.summary}, *each.per_size) for each in evaluations.values()), strict=True)
    for rows in sizes:
        cells = [_cells(row, (number,))[0] for number in numbers for row in rows]
        table.add_row(str(rows[0]["size"]), f"{rows[0]['objects']:.0f}", *cells)
    console.print(table)


def errors_line(folder: Path) -> str:
    """The AP50 that each kind of error costs, from the errors.json of a scored split, in one line."""
    kinds = json.loads((folder / "errors.json").read_text("utf-8"))["kinds"]
    parts = (f"{row['kind']} {row['ap_lost']:.3f} ({row['at_threshold']})" for row in kinds)
    return f"AP50 lost by kind of error (how many at the threshold): {', '.join(parts)}"
