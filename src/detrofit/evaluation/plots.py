"""Plots of an evaluation, as PNG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detrofit.drawing import PALETTE
from detrofit.evaluation.coco import RECALL_POINTS
from detrofit.evaluation.figures import png_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from detrofit.evaluation.evaluate import Evaluation

_LINE_STYLES = ("-", "--", "-.", ":")
_NAMED_CLASSES = 12  # more lines than this cannot be told apart and are drawn thin and grey
_WRITTEN_CELLS = 30  # classes up to which a confusion matrix has room for its numbers
_GREY = "#B0B0B0"


def plot_precision_recall(evaluation: Evaluation, path: str | Path) -> None:
    """Precision against recall at IoU 0.5: a line a class with its AP50, and their mean."""
    at_50 = evaluation.coco.precision[0, :, :, 0]
    with png_figure(path, width=9.5, height=6) as figure:
        axes = figure.subplots()
        measured = [label for label in range(at_50.shape[1]) if not np.isnan(at_50[:, label]).any()]
        for place, label in enumerate(measured):
            name = f"{evaluation.class_names[label]}  {at_50[:, label].mean():.3f}"
            axes.plot(RECALL_POINTS, at_50[:, label], **_class_line(place, len(measured), name))
        if measured:
            mean = at_50[:, measured].mean(axis=1)
            axes.plot(RECALL_POINTS, mean, color="black", linewidth=3, label=f"all classes  {mean.mean():.3f}")
        _unit_axes(axes, "recall", "precision", "Precision and recall at IoU 0.5")
        _legend(figure, axes, "AP50")


def plot_f1_threshold(evaluation: Evaluation, path: str | Path) -> None:
    """Precision, recall and F1 of all classes together against the score threshold, and the F1 of each class."""
    curve, best = evaluation.curve, evaluation.operating_point
    with png_figure(path, width=9.5, height=6) as figure:
        axes = figure.subplots()
        measured = [(i, each) for i, each in enumerate(evaluation.class_curves) if each.objects]
        for place, (label, each) in enumerate(measured):
            line = _class_line(place, len(measured), f"F1 of {evaluation.class_names[label]}")
            axes.plot(each.scores, each.f1, **line | {"linewidth": 1.2})
        axes.plot(curve.scores, curve.precision, color="#555555", linestyle="--", label="precision")
        axes.plot(curve.scores, curve.recall, color="#555555", linestyle=":", linewidth=2, label="recall")
        axes.plot(curve.scores, curve.f1, color="black", linewidth=3, label="F1")
        if best.true_positives:
            axes.plot(best.threshold, best.f1, "o", color="black", markersize=9)
            axes.axvline(best.threshold, color="black", linewidth=0.8)
        _unit_axes(axes, "score threshold", "", f"Best F1 {best.f1:.3f} at score {best.threshold:.3f} (IoU 0.5)")
        _legend(figure, axes, None)


def plot_confusion(evaluation: Evaluation, path: str | Path) -> None:
    """The confusion matrix: counts, coloured by their share of the true class."""
    counts = evaluation.confusion
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    written = len(counts) <= _WRITTEN_CELLS
    side = max(6.5, 4 + 0.7 * len(counts)) if written else min(24.0, 4 + 0.2 * len(counts))
    with png_figure(path, width=side + 1.5, height=side) as figure:
        axes = figure.subplots()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.grid(False)
        axes.spines[:].set_visible(False)
        names = [_literal(name) for name in evaluation.class_names]
        rotation = 40 if written else 90
        axes.set_xticks(range(len(counts)), [*names, "missed"], rotation=rotation, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(counts)), [*names, "background"])
        axes.set_xlabel("detected as")
        axes.set_ylabel("truth")
        threshold = evaluation.operating_point.threshold
        axes.set_title(f"Confusion at score {threshold:.3f}, IoU 0.5")
        if written:
            _write_cells(axes, counts, shares)
        figure.colorbar(image, ax=axes, label="share of the row", fraction=0.045, pad=0.03)


def _class_line(place: int, count: int, name: str) -> dict[str, Any]:
    if count > _NAMED_CLASSES:
        return {"color": _GREY, "linewidth": 0.8, "label": "each class" if place == 0 else "_"}
    style = _LINE_STYLES[place // 6 % len(_LINE_STYLES)]
    return {"color": PALETTE[place % 6], "linestyle": style, "linewidth": 2, "label": _literal(name)}


def _literal(name: str) -> str:
    """A name that matplotlib takes as it stands: no formulas between dollars, none hidden by a leading underscore."""
    escaped = name.replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped


def _unit_axes(axes: Axes, x_label: str, y_label: str, title: str) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=x_label, ylabel=y_label, title=title)


def _legend(figure: Figure, axes: Axes, title: str | None) -> None:
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside right upper", title=title, alignment="left")


def _write_cells(axes: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    size = 12 if len(counts) <= 12 else 8
    last = len(counts) - 1
    for row, column in np.ndindex(counts.shape):
        if row == column == last:
            continue  # background taken for background is not counted
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=colour, fontsize=size)
