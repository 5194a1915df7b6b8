"""The forest plot: each variant's difference to the base with its two intervals, and the seeds one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from detrofit.comparison.report.content import Content, interval_words, signed
from detrofit.pages.charts import Chart, Sheet, draw_chart, short
from detrofit.pages.colours import Series, ink

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW, _NARROW_ROW, _FRAME = 48, 62, 70  # units
_CAPTION = (
    "Thick line: 95 % interval over seeds and test pictures. Thin line: the same, corrected for the number of "
    "variants; the verdict rests on it. Small dots: single seeds. Shaded: the margin, within which a difference is of "
    "no interest."
)


def forest_chart(content: Content) -> Chart | None:
    """None where nothing could be compared."""
    rows = content.comparisons
    if not rows:
        return None
    words = [f"{each['name']} {signed(each['metrics']['AP']['difference'])}" for each in rows]
    return draw_chart(
        "forest", "", lambda sheet: _draw(sheet, content),
        caption=_CAPTION,
        alternative=f"Differences to the base in AP points: {', '.join(words)}.",
        height=_FRAME + _ROW * len(rows),
        narrow_height=_FRAME + _NARROW_ROW * len(rows),
    )  # fmt: skip


def _draw(sheet: Sheet, content: Content) -> None:
    rows, margin = content.comparisons, content.results["settings"]["margin"]
    axes = sheet.figure.subplots()
    reach = _reach(rows, margin)
    axes.axvspan(-margin, margin, color=ink("zone"), linewidth=0)
    axes.axvline(0, color=ink("ink"), linewidth=1)
    axes.set(xlim=(-reach[0], reach[1]), ylim=(len(rows) - 0.5, -0.5), xlabel="difference to the base, AP points")
    axes.grid(axis="y", visible=False)
    axes.set_yticks([])
    if sheet.narrow:
        axes.hlines(
            np.arange(1, len(rows)) - 0.5, 0, 1, color=ink("line"), linewidth=0.8, transform=axes.get_yaxis_transform()
        )
    for place, each in enumerate(rows):
        series = content.series[each["name"]]
        _draw_row(sheet, axes, place, each, series)
        sheet.mark_row(axes, place, 1, _tooltip(each, series), series)


def _reach(rows: list[dict[str, Any]], margin: float) -> tuple[float, float]:
    """How far the axis goes to either side: two seeds can have intervals that would hide all else."""
    seeds = [value for each in rows for value in each["metrics"]["AP"]["per_seed"]]
    ends = np.array([each["verdict"]["interval"] for each in rows])
    most = 4 * max(margin, *map(abs, seeds))
    low = max(margin, -min(seeds), min(-ends.min(), most))
    high = max(margin, max(seeds), min(ends.max(), most))
    room = 0.04 * (low + high)
    return low + room, high + room


def _draw_row(sheet: Sheet, axes: Axes, place: int, each: dict[str, Any], series: Series) -> None:
    numbers = each["metrics"]["AP"]
    at = place + (0.14 if sheet.narrow else 0)
    colour = series.colour
    artists = [
        *_line(axes, each["verdict"]["interval"], at, colour, 1.4),
        *_line(axes, numbers["interval"], at, colour, 4.5),
        *axes.plot(numbers["difference"], at, series.marker, color=colour, markersize=9, markeredgecolor=ink("paper")),
        *axes.plot(
            numbers["per_seed"], np.full(len(numbers["per_seed"]), at + 0.26), "o", color=colour, markersize=3.6,
            alpha=0.65, markeredgewidth=0,
        ),
    ]  # fmt: skip
    sheet.paint(series, *artists)
    across = axes.get_yaxis_transform()
    name = short(each["name"], 30 if sheet.narrow else 24) + (f" ({series.note})" if series.note else "")
    value = f"{signed(numbers['difference'])}  ({interval_words(each['verdict']['interval'])})"
    if sheet.narrow:
        axes.text(0, place - 0.28, name, transform=across, va="center")
        axes.text(1, place - 0.28, value.split("  ")[0], transform=across, va="center", ha="right")
        return
    first, _, second = name.partition(" (")
    axes.text(
        -0.015, at, f"{first}\n{second.rstrip(')')}" if second else first, transform=across, va="center", ha="right"
    )
    axes.text(1.015, at, value, transform=across, va="center", ha="left", fontsize=12)


def _line(axes: Axes, interval: list[float], at: float, colour: str, width: float) -> list[Any]:
    """A line from end to end, with an arrow where the axis ends before it does."""
    low, high = axes.get_xlim()
    ends = np.clip(interval, low, high)
    artists = list(axes.plot(ends, [at, at], color=colour, linewidth=width, solid_capstyle="round"))
    for end, cut, arrow in ((low, interval[0] < low, "<"), (high, interval[1] > high, ">")):
        if cut:
            artists += axes.plot(end, at, arrow, color=colour, markersize=6, clip_on=False)
    return artists


def _tooltip(each: dict[str, Any], series: Series) -> str:
    numbers, verdict = each["metrics"]["AP"], each["verdict"]
    seeds = ", ".join(signed(value) for value in numbers["per_seed"])
    return "\n".join(
        [
            f"{each['name']}: {verdict['word']}",
            f"difference {signed(numbers['difference'])} AP",
            f"95 % {interval_words(numbers['interval'])}",
            f"corrected {interval_words(verdict['interval'])}",
            f"seed by seed {seeds}",
        ]
    )
