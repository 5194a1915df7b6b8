"""Learning curves of a run, from the lines that its training wrote."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detrofit.drawing import PALETTE
from detrofit.errors import DetrofitError
from detrofit.evaluation.figures import png_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MetricRow = dict[str, Any]

_ACCURACY = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "f1", "precision", "recall")
_MAIN = {"loss", "AP", "lr"}  # drawn thick and black in their panel


def read_metrics(path: str | Path) -> list[MetricRow]:
    """The rows of a metrics JSONL; a last line that a killed run left incomplete is skipped."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DetrofitError(f"there are no metrics to read at {path}; give a run's metrics file") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise DetrofitError(f"line {number} of {path} is no JSON; remove it") from error
    return rows


def plot_learning_curves(rows: Iterable[MetricRow], path: str | Path) -> None:
    """Losses, accuracy and learning rate against the epoch, a panel each, as PNG.

    Args:
        rows: one for each time of measuring, with `epoch` and any of `loss`, `loss_...`, the keys of
            `Evaluation.summary`, and `lr` or `lr_...`; other keys are not drawn. A prefix up to a slash
            (`train/loss`) belongs to the name but not to its meaning.
        path: the PNG to write.
    """
    rows = list(rows)
    panels = [(title, names) for title, names in _panels(rows) if names]
    with png_figure(path, width=5.6 * max(len(panels), 1), height=4.4) as figure:
        all_axes = figure.subplots(1, max(len(panels), 1), squeeze=False)[0]
        for axes, (title, names) in zip(all_axes, panels, strict=False):
            _draw_panel(axes, rows, title, names)


def _panels(rows: Sequence[MetricRow]) -> list[tuple[str, list[str]]]:
    measured = (name for row in rows if "epoch" in row for name, value in row.items() if value is not None)
    names = list(dict.fromkeys(measured))
    return [
        ("Loss", [name for name in names if _meaning(name).startswith("loss")]),
        ("Accuracy on validation", [name for name in names if _meaning(name) in _ACCURACY]),
        ("Learning rate", [name for name in names if _meaning(name).split("_")[0] == "lr"]),
    ]


def _meaning(name: str) -> str:
    return name.rpartition("/")[2]


def _draw_panel(axes: Axes, rows: Sequence[MetricRow], title: str, names: Sequence[str]) -> None:
    colours = iter(PALETTE * (1 + len(names) // len(PALETTE)))
    for name in sorted(names, key=lambda name: _meaning(name) not in _MAIN):
        points = [(row["epoch"], row[name]) for row in rows if "epoch" in row and row.get(name) is not None]
        main = _meaning(name) in _MAIN
        axes.plot(
            *zip(*points, strict=True),
            color="black" if main else next(colours),
            linewidth=3 if main else 1.6,
            marker="o" if len(points) < 8 else "",
            label=name,
            zorder=3 if main else 2,
        )
    axes.set(title=title, xlabel="epoch")
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", scilimits=(-3, 4))
    if title.startswith("Accuracy"):
        axes.set_ylim(0, 1)
    axes.legend(loc="best")
