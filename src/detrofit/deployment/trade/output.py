"""A trade as JSON, as a plot and as a table."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detrofit.deployment.trade.choice import TradePoint
from detrofit.deployment.trade.run import Trade
from detrofit.drawing import PALETTE
from detrofit.evaluation.figures import png_figure
from detrofit.files import write_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.console import Console

FORMAT = 1


def save_trade(trade: Trade, folder: Path) -> None:
    """Write trade.json and trade.png."""
    write_file(folder / "trade.json", json.dumps(as_json(trade), indent=1, ensure_ascii=False) + "\n")
    plot_trade(trade, folder / "trade.png")


def as_json(trade: Trade) -> dict[str, Any]:
    """Everything as plain JSON values."""
    front = trade.front
    chosen = trade.chosen
    return {
        "format": FORMAT,
        "file": trade.file,
        "data": trade.data,
        "split": trade.split,
        "timed_as": trade.format,
        "machine": trade.machine,
        "points": [_row(each) | {"on_front": each in front} for each in trade.points],
        "chosen": chosen and _row(chosen.point) | {"budget_ms": chosen.budget, "file": chosen.file.name},
    }


def _row(each: TradePoint) -> dict[str, Any]:
    point = each.point
    return {
        "imgsz": list(point.size),
        "num_queries": point.num_queries,
        "decoder_layers": point.decoder_layers,
        **{name: None if value != value else value for name, value in each.scores.items()},
        "latency": asdict(each.latency) if each.latency else None,
        "failure": each.failure,
    }


def plot_trade(trade: Trade, path: Path) -> None:
    """AP against latency, a colour for each number of decoder layers, the front as a line, as PNG."""
    timed = [each for each in trade.points if each.latency]
    with png_figure(path, width=8.5, height=5.5) as figure:
        axes = figure.subplots()
        for number, layers in enumerate(sorted({each.point.decoder_layers for each in timed})):
            chosen = [each for each in timed if each.point.decoder_layers == layers]
            label = f"{layers} decoder layer{'s' if layers > 1 else ''}"
            _scatter(axes, chosen, PALETTE[number % len(PALETTE)], label)
        _draw_front(axes, trade.front)
        for each in timed:
            if each.point == trade.trained:
                axes.plot(each.milliseconds, each.ap, "*", color="black", markersize=15, label="as trained")
        if trade.chosen:
            axes.axvline(trade.chosen.budget, color="grey", linestyle=":", label=f"{trade.chosen.budget:g} ms")
        axes.set(title=trade.file, xlabel=f"ms a picture ({trade.format})", ylabel=f"AP on {trade.split}")
        axes.set_xlim(left=0)
        axes.legend(loc="lower right")


def _scatter(axes: Axes, points: list[TradePoint], colour: str, label: str) -> None:
    middle = [each.milliseconds for each in points]
    errors = [[each.milliseconds - each.latency.low for each in points if each.latency],
              [each.latency.high - each.milliseconds for each in points if each.latency]]  # fmt: skip
    axes.errorbar(middle, [each.ap for each in points], xerr=errors, fmt="o", color=colour, alpha=0.75, label=label)


def _draw_front(axes: Axes, front: list[TradePoint]) -> None:
    axes.plot([each.milliseconds for each in front], [each.ap for each in front], color="black", label="not beaten")
    for each in front:
        point = each.point
        side = f"{point.size[0]}" if point.size[0] == point.size[1] else f"{point.size[0]}x{point.size[1]}"
        axes.annotate(
            f"{side}, {point.num_queries}q",
            (each.milliseconds, each.ap),
            (4, 5),
            textcoords="offset points",
            fontsize=9,
        )


def print_trade(trade: Trade, console: Console) -> None:
    """The points from fast to slow; those that no other beats are marked."""
    from rich.table import Table

    front = trade.front
    table = Table("", "input", "queries", "layers", "AP", "AP50", "AP small", "ms a picture (95 %)")
    for each in sorted(trade.points, key=lambda each: each.milliseconds):
        point, latency = each.point, each.latency
        mark = "*" if each in front else ""
        mark += " as trained" if point == trade.trained else ""
        table.add_row(
            mark,
            f"{point.size[0]} x {point.size[1]}",
            str(point.num_queries),
            str(point.decoder_layers),
            *(_number(each.scores[name]) for name in ("AP", "AP50", "AP_small")),
            f"{latency.milliseconds:.2f} ({latency.low:.2f}-{latency.high:.2f})" if latency else "not timed",
        )
    console.print(table)
    machine = trade.machine
    console.print(
        f"AP on {trade.split}; {trade.format} on {machine.get('processor', 'another machine')}; "
        "* no other point is as accurate and as fast",
        highlight=False,
    )
    failures = Counter(each.failure for each in trade.points if each.failure)
    for failure, count in failures.items():
        console.print(f"not timed ({count}): {failure}", highlight=False, markup=False)


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.4f}"
