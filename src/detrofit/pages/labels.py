"""Where labels go in a chart so that none covers another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from detrofit.pages.charts import Sheet
from detrofit.pages.colours import ink

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Offsets in units from a point, with the side of the text that is anchored; tried in this order.
_PLACES = (
    (11, 0, "left", "center"), (-11, 0, "right", "center"), (0, 12, "center", "bottom"), (0, -12, "center", "top"),
    (9, 11, "left", "bottom"), (9, -11, "left", "top"), (-9, 11, "right", "bottom"), (-9, -11, "right", "top"),
    (0, 26, "center", "bottom"), (0, -26, "center", "top"),
    (16, 24, "left", "bottom"), (16, -24, "left", "top"), (-16, 24, "right", "bottom"), (-16, -24, "right", "top"),
)  # fmt: skip
_FARTHER = 8.0 * np.arange(len(_PLACES))  # what a later place costs, in units of area covered
_POINT = 7.0  # half the side of what a point takes, units


def spread_apart(values: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The values moved as little as needed so that neighbours are `gap` apart, within low..high if they fit."""
    if not len(values):
        return []
    order = np.argsort(values, kind="stable")
    steps = gap * np.arange(len(values))
    # Without the steps, places in order may not fall: the nearest such sequence pools what would cross.
    blocks: list[tuple[float, int]] = []
    for value in np.asarray(values, float)[order] - steps:
        total, count = float(value), 1
        while blocks and blocks[-1][0] / blocks[-1][1] >= total / count:
            before = blocks.pop()
            total, count = total + before[0], count + before[1]
        blocks.append((total, count))
    pooled = np.concatenate([np.full(count, total / count) for total, count in blocks])
    pooled = np.maximum(np.minimum(pooled, high - steps[-1]), low) + steps
    found = np.empty(len(values))
    found[order] = pooled
    return found.tolist()


def label_points(
    sheet: Sheet,
    axes: Axes,
    points: Sequence[tuple[float, float, str]],
    bars: Sequence[tuple[tuple[float, float], tuple[float, float]]] = (),
) -> list[Any]:
    """Write a label beside each (x, y, text), where it covers neither points nor other labels if there is room.

    `bars` are lines between two (x, y), upright or level, which labels avoid as well.
    """
    sheet.figure.draw_without_rendering()
    taken = [_around(axes.transData.transform((x, y)), axes.transData.transform((x, y))) for x, y, _ in points]
    for bar in bars:
        low, high = axes.transData.transform(np.sort(bar, axis=0))
        taken.append(_around(low, high, room=2.0))
    frame = np.array([0, 0, sheet.figure.bbox.width, sheet.figure.bbox.height])
    labels = []
    for x, y, text in points:
        at = axes.transData.transform((x, y))
        label = axes.annotate(text, (x, y), (0, 0), textcoords="offset points", fontsize=12, annotation_clip=False)
        label.set_bbox({"facecolor": ink("paper"), "edgecolor": "none", "pad": 0.6, "alpha": 0.75})
        label.set_in_layout(False)
        box = label.get_window_extent()
        costs = [_cost(_box_at(at, place, box.width, box.height), taken, frame) for place in _PLACES]
        place = _PLACES[int(np.argmin(costs + _FARTHER))]
        label.set(position=place[:2], horizontalalignment=place[2], verticalalignment=place[3])
        taken.append(_box_at(at, place, box.width, box.height))
        labels.append(label)
    return labels


def _around(low: np.ndarray, high: np.ndarray, room: float = _POINT) -> np.ndarray:
    return np.concatenate([low - room, high + room])


def _box_at(at: np.ndarray, place: tuple[float, float, str, str], width: float, height: float) -> np.ndarray:
    """x0, y0, x1, y1 of a text so large at such a place of a point."""
    left = at[0] + place[0] - width * {"left": 0.0, "center": 0.5, "right": 1.0}[place[2]]
    bottom = at[1] + place[1] - height * {"bottom": 0.0, "center": 0.5, "top": 1.0}[place[3]]
    return np.array([left, bottom, left + width, bottom + height])


def _cost(box: np.ndarray, taken: Sequence[np.ndarray], frame: np.ndarray) -> float:
    """The area that a label would cover of others and leave out of the frame."""
    outside = _area(box) - _area(_overlap(box, frame))
    return outside + sum(_area(_overlap(box, other)) for other in taken)


def _overlap(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.concatenate([np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])])


def _area(box: np.ndarray) -> float:
    return float((box[2:] - box[:2]).clip(min=0).prod())
