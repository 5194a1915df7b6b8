"""Learning curves: validation AP by epoch, the mean over seeds and a band from the lowest to the highest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from detrofit.comparison.report.content import NOTHING, Content
from detrofit.pages.blocks import Cell, Column, Row, Table
from detrofit.pages.charts import Chart, Sheet, draw_chart, short
from detrofit.pages.colours import Series, ink
from detrofit.pages.labels import spread_apart

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_MARKS = 40  # of a curve; more would lie on each other
_CAPTION = "AP on the validation split, which chooses the checkpoint: mean over seeds, band from lowest to highest."


@dataclass(frozen=True)
class Curve:
    """A variant's validation AP (points, of 100) at each epoch `[E]` that any of its seeds has."""

    series: Series
    epochs: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    seeds: np.ndarray


def learning_curves(content: Content) -> list[Curve]:
    """One a variant that has curves."""
    curves = []
    for name, series in content.series.items():
        found = [run["curve"] for run in content.runs(name) if run.get("curve")]
        if found:
            curves.append(_curve(series, found))
    return curves


def _curve(series: Series, curves: list[list[list[float]]]) -> Curve:
    by_epoch: dict[float, list[float]] = {}
    for curve in curves:
        for epoch, value in curve:
            by_epoch.setdefault(epoch, []).append(100 * value)
    epochs = sorted(by_epoch)
    rows = np.array([(np.mean(at), min(at), max(at), len(at)) for at in (by_epoch[epoch] for epoch in epochs)])
    return Curve(series, np.array(epochs), *rows.T)


def curve_chart(content: Content) -> Chart | None:
    """None where no run has a curve."""
    curves = learning_curves(content)
    if not curves:
        return None
    words = [f"{curve.series.name} {curve.mean[-1]:.1f}" for curve in curves]
    return draw_chart(
        "curves", "", lambda sheet: _draw(sheet, curves),
        caption=_CAPTION,
        alternative=f"Validation AP at the last epoch: {', '.join(words)}.",
        height=max(400, 60 + 19 * len(curves)),
        narrow_height=330 + 20 * len(curves),
        numbers=_numbers(curves),
    )  # fmt: skip


def _numbers(curves: list[Curve]) -> Table:
    columns = [Column("epoch"), *(Column(curve.series.name) for curve in curves)]
    epochs = sorted({epoch for curve in curves for epoch in curve.epochs.tolist()})
    rows = [Row([f"{epoch:g}", *(_at(curve, epoch) for curve in curves)]) for epoch in epochs]
    return Table("Validation AP by epoch, mean and range over seeds", columns, rows, compact=True)


def _at(curve: Curve, epoch: float) -> Cell:
    places = np.flatnonzero(curve.epochs == epoch)
    if not len(places):
        return Cell(NOTHING)
    mean, low, high = (float(values[places[0]]) for values in (curve.mean, curve.low, curve.high))
    return Cell(f"{mean:.1f}", small=f"{low:.1f} to {high:.1f}", value=mean)


def _draw(sheet: Sheet, curves: list[Curve]) -> None:
    axes = sheet.figure.subplots()
    for curve in curves:
        _draw_curve(sheet, axes, curve)
    axes.set(xlabel="epoch", ylabel="validation AP")
    axes.margins(x=0.02)
    axes.locator_params(axis="x", integer=True)  # no half epochs
    if sheet.narrow:
        sheet.figure.legend(loc="outside lower left", frameon=False, fontsize=12, handlelength=1.6)
    else:
        _label_ends(sheet, axes, curves)


def _draw_curve(sheet: Sheet, axes: Axes, curve: Curve) -> None:
    series = curve.series
    line: dict[str, Any] = {"color": series.colour, "linestyle": series.dash, "linewidth": 2}
    few: dict[str, Any] = {"marker": series.marker, "markersize": 5, "markevery": max(1, len(curve.epochs) // 8)}
    band = axes.fill_between(curve.epochs, curve.low, curve.high, color=series.colour, alpha=0.14, linewidth=0)
    sheet.paint(series, band, *axes.plot(curve.epochs, curve.mean, **line, **few, label=short(series.name, 34)))
    for place in _marked(len(curve.epochs)):
        text = (
            f"{series.name}\nepoch {curve.epochs[place]:g}: AP {curve.mean[place]:.2f}\n"
            f"{curve.low[place]:.2f} to {curve.high[place]:.2f} over {curve.seeds[place]:.0f} seeds"
        )
        sheet.mark(axes, curve.epochs[place], curve.mean[place], text, series)


def _marked(count: int) -> list[int]:
    """Which epochs answer to the mouse, the last always."""
    return sorted({*range(0, count, -(-count // _MOST_MARKS)), count - 1})


def _label_ends(sheet: Sheet, axes: Axes, curves: list[Curve]) -> None:
    low, high = axes.get_ylim()
    height = sheet.figure.bbox.height - 60
    ends = [float(curve.mean[-1]) for curve in curves]
    places = spread_apart(ends, 17 * (high - low) / height, low, high)
    across = axes.get_yaxis_transform()
    for curve, end, place in zip(curves, ends, places, strict=True):
        leader = axes.plot([1.0, 1.03], [end, place], color=ink("soft"), linewidth=0.7, transform=across, clip_on=False)
        label = axes.text(1.04, place, short(curve.series.name, 22), transform=across, va="center", fontsize=12)
        sheet.paint(curve.series, *leader, label)
    axes.set_ylim(low, high)
