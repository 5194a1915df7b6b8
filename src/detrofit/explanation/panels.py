"""Panels of pictures with boxes, heat and points, in a paper's size, as PNG, SVG and PDF."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from detrofit.drawing import PALETTE
from detrofit.files import write_file
from detrofit.pages.charts import font_families

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")
COLUMN_WIDTH, PAGE_WIDTH = 3.25, 6.75  # inches of a column and of a page of a two-column paper
_DOTS = 300  # an inch
_STYLE: dict[str, Any] = {
    "font.size": 7,
    "axes.titlesize": 7,
    "pdf.fonttype": 42,  # text stays text, as journals ask for
    "svg.fonttype": "none",
    "svg.hashsalt": "detrofit",
    "text.parse_math": False,  # a class with dollars in its name is no formula
    "savefig.dpi": _DOTS,
}
_METADATA: dict[str, dict[str, Any]] = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


@dataclass(frozen=True)
class PanelBox:
    """A box xyxy in pixels of the panel's picture."""

    xyxy: Sequence[float]
    caption: str = ""
    colour: str = PALETTE[0]


@dataclass(frozen=True)
class PanelPoints:
    """Points `[n,2]`, x and y in pixels of the panel's picture, with `weights` `[n]` in 0..1 and `colours`."""

    places: np.ndarray
    weights: np.ndarray
    colours: Sequence[str]


@dataclass(frozen=True)
class Panel:
    """A picture uint8 `[H,W,3]` with what lies over it; `heat` `[h,w]` in 0..1 covers all of it, of whatever size."""

    picture: np.ndarray
    title: str = ""
    boxes: Sequence[PanelBox] = field(default=())
    heat: np.ndarray | None = None
    points: PanelPoints | None = None


def save_panels(
    rows: Sequence[Sequence[Panel | None]],
    stem: Path,
    *,
    row_titles: Sequence[str] = (),
    width: float = PAGE_WIDTH,
    formats: Sequence[str] = FORMATS,
) -> list[Path]:
    """Write a grid of panels, `width` inches wide, as `stem` with each format's suffix; the files."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = max(len(row) for row in rows)
    # Each row is as high as its pictures are at the column's width, and a line of text.
    heights = [max(each.picture.shape[0] / each.picture.shape[1] for each in row if each) for row in rows]
    style: Any = _STYLE | {"font.family": font_families()}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # A machine without a font for a class name shows boxes in its place; a line for each letter helps nobody.
        warnings.filterwarnings("ignore", message=".*missing from font.*")
        height = sum(share * width / columns + 0.2 for share in heights)
        figure = Figure(figsize=(width, height), layout="compressed")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(rows), columns, squeeze=False, height_ratios=heights)
        for number, row in enumerate(rows):
            for place in range(columns):
                panel = row[place] if place < len(row) else None
                _draw(axes[number, place], panel)
            if row_titles:
                axes[number, 0].set_ylabel(row_titles[number])
        return [_write(figure, stem, kind) for kind in formats]


def _write(figure: Figure, stem: Path, kind: str) -> Path:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata=_METADATA[kind])
    return write_file(stem.with_name(f"{stem.name}.{kind}"), buffer.getvalue())


def _draw(axes: Axes, panel: Panel | None) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    if panel is None:
        return
    height, width = panel.picture.shape[:2]
    axes.imshow(panel.picture, extent=(0, width, height, 0), interpolation="nearest")
    if panel.heat is not None:
        large = Image.fromarray(panel.heat.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
        heat = np.asarray(large)
        axes.imshow(
            heat, extent=(0, width, height, 0), cmap="inferno", vmin=0, vmax=1, alpha=0.15 + 0.6 * heat.clip(0, 1)
        )
    for box in panel.boxes:
        _draw_box(axes, box, width, height)
    if panel.points is not None:
        weights = panel.points.weights / max(float(panel.points.weights.max(initial=0)), 1e-12)
        x, y = panel.points.places.T
        axes.scatter(x, y, s=1 + 14 * weights, c=list(panel.points.colours), linewidths=0, alpha=0.8)
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_title(panel.title, pad=2)


def _draw_box(axes: Axes, box: PanelBox, width: int, height: int) -> None:
    from matplotlib.patches import Rectangle

    x1, y1, x2, y2 = box.xyxy
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=box.colour, linewidth=1))
    if box.caption:
        place = {"x": min(max(x1, 0), 0.98 * width), "y": max(y1, 0.06 * height)}
        background = {"facecolor": box.colour, "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
        axes.text(
            place["x"], place["y"], box.caption, color="white", fontsize=5, va="bottom", bbox=background, clip_on=True
        )
