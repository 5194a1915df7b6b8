"""AP against what it costs, with the uncertainty of both and the front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from detrofit.comparison.pareto import Cost, ParetoPoint, exact, pareto_points, timed
from detrofit.comparison.report.content import Content, plain, runtime_words
from detrofit.pages.blocks import Cell, Column, Row, Table, slug
from detrofit.pages.charts import Chart, Sheet, draw_chart, short
from detrofit.pages.colours import ink
from detrofit.pages.labels import label_points

if TYPE_CHECKING:
    from matplotlib.axes import Axes

READING = (
    "Bars up and down: 95 % interval of the difference to the base, over seeds and test pictures; the base, to which "
    "all are compared, has none. Bars across: 95 % interval of the median time. Stepped line and filled marks: the "
    "front, which no other beats in both. A mark tells how often it is on the front when seeds, pictures and times are "
    "drawn anew."
)


@dataclass(frozen=True)
class CostAxis:
    """A cost to draw AP against: what it is called, its unit, and the variants that have it."""

    name: str
    title: str
    label: str
    costs: dict[str, Cost]


def cost_axes(content: Content) -> list[CostAxis]:
    """Latency for each runtime and device, then operations and parameters; those that at least two variants have."""
    axes = []
    for (source, runtime), files in content.latencies().items():
        words = runtime_words(source, runtime)
        costs = {name: timed(file["total"]) for name, file in files.items()}
        name, title = slug(f"latency {source} {runtime}"), f"latency with {words}"
        axes.append(CostAxis(name, title, f"{title}, ms", costs))
    for key, title, scale in (("gflops", "GFLOPs", 1.0), ("parameters", "parameters, M", 1e-6)):
        found = {line["name"]: exact(scale * line["costs"][key]) for line in content.lines if key in line["costs"]}
        axes.append(CostAxis(key, title.partition(",")[0], title, found))
    return [axis for axis in axes if len(set(axis.costs) & {line["name"] for line in content.lines}) > 1]


def pareto_chart(content: Content, axis: CostAxis) -> Chart | None:
    """None where fewer than two variants have results and this cost."""
    points = pareto_points(content.results, axis.costs)
    if len(points) < 2:
        return None
    front = ", ".join(point.name for point in points if point.on_front)
    return draw_chart(
        f"pareto-{axis.name}", f"AP against {axis.title}", lambda sheet: _draw(sheet, content, axis, points),
        caption="",
        alternative=f"AP against {axis.label}, {len(points)} variants; on the front: {front}.",
        height=400,
        narrow_height=330,
        numbers=_numbers(content, axis, points),
    )  # fmt: skip


def _numbers(content: Content, axis: CostAxis, points: Sequence[ParetoPoint]) -> Table:
    columns = [
        Column("variant"),
        Column("test AP"),
        Column(axis.label),
        Column("on the front"),
        Column("in % of draws"),
    ]
    rows = []
    for point in points:
        ends = f"{plain(point.ap_interval[0])} to {plain(point.ap_interval[1])}" if point.ap_interval else ""
        cost = f"{point.cost.low:.4g} to {point.cost.high:.4g}" if point.cost.low < point.cost.high else ""
        cells: list[Cell | str] = [
            point.name,
            Cell(f"{point.ap:.2f}", small=ends, value=point.ap),
            Cell(f"{point.cost.value:.4g}", small=cost, value=point.cost.value),
            "yes" if point.on_front else "no",
            Cell(f"{100 * point.share:.0f}", value=point.share),
        ]
        rows.append(Row(cells, content.series[point.name]))
    return Table(f"AP against {axis.title}", columns, rows)


def _draw(sheet: Sheet, content: Content, axis: CostAxis, points: Sequence[ParetoPoint]) -> None:
    axes = sheet.figure.subplots()
    _draw_front(axes, points)
    for point in points:
        _draw_point(sheet, axes, content, axis, point)
    axes.set(xlabel=axis.label, ylabel="test AP")
    axes.margins(x=0.2 if sheet.narrow else 0.12, y=0.1)
    named = [(each.cost.value, each.ap, short(each.name, 16 if sheet.narrow else 26)) for each in points]
    labels = label_points(sheet, axes, named, [bar for each in points for bar in _bars(each)])
    for point, label in zip(points, labels, strict=True):
        sheet.paint(content.series[point.name], label)


def _draw_front(axes: Axes, points: Sequence[ParetoPoint]) -> None:
    front = sorted((point for point in points if point.on_front), key=lambda point: point.cost.value)
    axes.step(
        [point.cost.value for point in front], [point.ap for point in front], where="post", color=ink("soft"),
        linewidth=1.2, linestyle=(0, (2, 2)), zorder=1.5,
    )  # fmt: skip


def _bars(point: ParetoPoint) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """The ends of its error bars, across and up."""
    low, high = point.ap_interval or (point.ap, point.ap)
    cost = point.cost
    return [((cost.low, point.ap), (cost.high, point.ap)), ((cost.value, low), (cost.value, high))]


def _draw_point(sheet: Sheet, axes: Axes, content: Content, axis: CostAxis, point: ParetoPoint) -> None:
    series, cost = content.series[point.name], point.cost
    low, high = point.ap_interval or (point.ap, point.ap)
    bars = axes.errorbar(
        cost.value, point.ap, yerr=np.array([[point.ap - low], [high - point.ap]]),
        xerr=np.array([[max(0.0, cost.value - cost.low)], [max(0.0, cost.high - cost.value)]]),
        fmt="none", ecolor=series.colour, elinewidth=1.4, capsize=0,
    )  # fmt: skip
    mark = axes.plot(
        cost.value, point.ap, series.marker, color=series.colour, markersize=9.5, markeredgewidth=1.8,
        markerfacecolor=series.colour if point.on_front else ink("paper"),
    )  # fmt: skip
    sheet.paint(series, *bars.lines[2], *mark)
    interval = f" ({plain(low)} to {plain(high)})" if point.ap_interval else ""
    place = "on the front" if point.on_front else "behind the front"
    text = f"{point.name}\nAP {point.ap:.2f}{interval}\n{axis.label}: {cost.value:.4g}"
    if cost.low < cost.high:
        text += f" ({cost.low:.4g} to {cost.high:.4g})"
    sheet.mark(axes, cost.value, point.ap, f"{text}\n{place}; in {100 * point.share:.0f} % of draws on it", series)
