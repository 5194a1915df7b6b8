"""The report's figures as SVG text that follows the page's colours; each mark tells its numbers under the mouse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

WIDTH = 720
LEFT, RIGHT, TOP, BOTTOM = 170, 20, 14, 40
COLOURS = ("#3b6fb6", "#c8553d", "#3a8f5c", "#8a5aa8", "#b8860b", "#2a9d9d", "#a03060", "#6b7280")


@dataclass(frozen=True)
class Scale:
    """Maps values from `low`..`high` to pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, wanted: int = 6) -> list[float]:
        """Round values, about as many as wanted."""
        step = 10.0 ** np.floor(np.log10((self.high - self.low) / wanted))
        step *= next((factor for factor in (1, 2, 5, 10) if (self.high - self.low) / (step * factor) <= wanted), 10)
        first = np.ceil(self.low / step)
        return [float(round(number * step, 10)) for number in np.arange(first, np.floor(self.high / step) + 1)]


def spread(values: Sequence[float], start: float, end: float, include: Sequence[float] = ()) -> Scale:
    """A scale with a little room around all values."""
    low, high = min([*values, *include]), max([*values, *include])
    room = 0.06 * (high - low) or 1.0
    return Scale(low - room, high + room, start, end)


def forest(comparisons: Sequence[dict[str, Any]], margin: float) -> str:
    """Differences in AP with plain (thick) and corrected (thin) intervals; the band is the margin."""
    ends = [end for each in comparisons for end in (*each["verdict"]["interval"], *each["metrics"]["AP"]["interval"])]
    x = spread(ends, LEFT, WIDTH - RIGHT, (-margin, margin))
    height = TOP + BOTTOM + 34 * len(comparisons)
    marks = [
        f'<rect class="band" x="{x(-margin):.1f}" y="{TOP}" width="{x(margin) - x(-margin):.1f}" '
        f'height="{height - TOP - BOTTOM}"/>',
        *_x_axis(x, height, "difference in AP points"),
        f'<line class="zero" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>',
    ]
    for row, each in enumerate(comparisons):
        marks.append(_forest_row(each, x, TOP + 34 * row + 17, COLOURS[row % len(COLOURS)]))
    return _svg(height, marks, "Differences to the base with intervals")


def _forest_row(each: dict[str, Any], x: Scale, y: float, colour: str) -> str:
    numbers, (low, high) = each["metrics"]["AP"], each["verdict"]["interval"]
    plain_low, plain_high = numbers["interval"]
    seeds = "".join(
        f'<circle class="seed" cx="{x(value):.1f}" cy="{y + 9:.1f}" r="2.5"/>'
        for value in numbers["per_seed"]
        if x.low <= value <= x.high
    )
    title = (
        f"{each['name']}: {numbers['difference']:+.2f}, 95 % {plain_low:+.2f} to {plain_high:+.2f}, "
        f"corrected {low:+.2f} to {high:+.2f}, seeds {', '.join(f'{value:+.2f}' for value in numbers['per_seed'])}"
    )
    return (
        f'<g class="mark" stroke="{colour}" fill="{colour}"><title>{escape(title)}</title>'
        f'<rect class="hit" x="0" y="{y - 17:.1f}" width="{WIDTH}" height="34"/>'
        f'<text class="label" x="{LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">{escape(_short(each["name"]))}</text>'
        f'<line x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{y}" y2="{y}" stroke-width="1.5"/>'
        f'<line x1="{x(plain_low):.1f}" x2="{x(plain_high):.1f}" y1="{y}" y2="{y}" stroke-width="4"/>'
        f'<circle cx="{x(numbers["difference"]):.1f}" cy="{y}" r="5.5"/>{seeds}</g>'
    )


def cost_plot(variants: Sequence[dict[str, Any]], cost: str, label: str) -> str:
    """AP against a cost, with the spread over seeds; empty text unless two variants have both."""
    chosen = [each for each in variants if each["AP_mean"] is not None and cost in each["costs"]]
    if len(chosen) < 2:
        return ""
    height = 340
    spreads = [each["AP_sd"] or 0.0 for each in chosen]
    ends = [each["AP_mean"] + sign * sd for each, sd in zip(chosen, spreads, strict=True) for sign in (-1, 1)]
    x = spread([each["costs"][cost] for each in chosen], 60, WIDTH - 130)
    y = spread(ends, height - BOTTOM, TOP)
    marks = [*_x_axis(x, height, label), *_y_axis(y, 60, "AP")]
    for number, (each, sd) in enumerate(zip(chosen, spreads, strict=True)):
        at, mean, colour = x(each["costs"][cost]), each["AP_mean"], COLOURS[number % len(COLOURS)]
        title = f"{each['name']}: AP {mean:.2f} +- {sd:.2f} over seeds, {each['costs'][cost]:.4g} {label}"
        marks.append(
            f'<g class="mark" stroke="{colour}" fill="{colour}"><title>{escape(title)}</title>'
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y(mean - sd):.1f}" y2="{y(mean + sd):.1f}" stroke-width="2"/>'
            f'<circle cx="{at:.1f}" cy="{y(mean):.1f}" r="6"/>'
            f'<text class="label" x="{at + 10:.1f}" y="{y(mean) + 4:.1f}">{escape(_short(each["name"]))}</text></g>'
        )
    return _svg(height, marks, f"AP against {label}")


def learning_curves(runs: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """Validation AP by epoch: the mean over seeds and, as a band, the lowest and highest; empty without curves."""
    curves = {name: [run["curve"] for run in runs if run["variant"] == name and run.get("curve")] for name in names}
    curves = {name: found for name, found in curves.items() if found}
    if not curves:
        return ""
    height = 340
    points = [point for found in curves.values() for curve in found for point in curve]
    x = spread([point[0] for point in points], 60, WIDTH - 20)
    y = spread([100 * point[1] for point in points], height - BOTTOM - 20 * (1 + len(curves) // 4), TOP)
    floor = y.start + BOTTOM
    marks = [*_x_axis(x, floor, "epoch"), *_y_axis(y, 60, "validation AP")]
    for number, (name, found) in enumerate(curves.items()):
        marks.append(_curve(name, found, x, y, COLOURS[number % len(COLOURS)]))
        left, top = 60 + 165 * (number % 4), floor + 4 + 20 * (number // 4)
        marks.append(f'<rect x="{left}" y="{top}" width="12" height="12" fill="{COLOURS[number % len(COLOURS)]}"/>')
        marks.append(f'<text class="label" x="{left + 17}" y="{top + 11}">{escape(_short(name))}</text>')
    return _svg(height, marks, "Learning curves")


def _curve(name: str, curves: Sequence[Sequence[Sequence[float]]], x: Scale, y: Scale, colour: str) -> str:
    by_epoch: dict[float, list[float]] = {}
    for curve in curves:
        for epoch, value in curve:
            by_epoch.setdefault(epoch, []).append(100 * value)
    epochs = sorted(by_epoch)
    upper = [f"{x(epoch):.1f},{y(max(by_epoch[epoch])):.1f}" for epoch in epochs]
    lower = [f"{x(epoch):.1f},{y(min(by_epoch[epoch])):.1f}" for epoch in reversed(epochs)]
    middle = [f"{x(epoch):.1f},{y(float(np.mean(by_epoch[epoch]))):.1f}" for epoch in epochs]
    title = f"{name}: {len(curves)} seeds, at the end {np.mean(by_epoch[epochs[-1]]):.2f}"
    return (
        f'<g class="mark curve"><title>{escape(title)}</title>'
        f'<polygon points="{" ".join(upper + lower)}" fill="{colour}" opacity="0.18"/>'
        f'<polyline points="{" ".join(middle)}" fill="none" stroke="{colour}" stroke-width="2.2"/></g>'
    )


def _x_axis(x: Scale, height: float, label: str) -> list[str]:
    base = height - BOTTOM
    marks = [f'<line class="axis" x1="{x.start}" x2="{x.end}" y1="{base}" y2="{base}"/>']
    for tick in x.ticks():
        marks.append(f'<text class="tick" x="{x(tick):.1f}" y="{base + 15}" text-anchor="middle">{tick:g}</text>')
    middle = (x.start + x.end) / 2
    return [*marks, f'<text class="tick" x="{middle:.0f}" y="{base + 32}" text-anchor="middle">{escape(label)}</text>']


def _y_axis(y: Scale, left: float, label: str) -> list[str]:
    marks = [f'<line class="axis" x1="{left}" x2="{left}" y1="{y.start}" y2="{y.end}"/>']
    for tick in y.ticks(5):
        marks.append(f'<text class="tick" x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    return [*marks, f'<text class="tick" x="{left + 6}" y="{TOP + 6}">{escape(label)}</text>']


def _svg(height: float, marks: Sequence[str], label: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(marks)}</svg>'
    )


def _short(name: str) -> str:
    return name if len(name) <= 24 else name[:23] + "…"
