"""Figures drawn off screen in one style and written as PNG."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detrofit.files import write_file
from detrofit.pages.charts import font_families

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE: dict[str, Any] = {
    "font.size": 12,
    "axes.titlesize": 14,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "legend.frameon": False,
    "legend.fontsize": 11,
}


@contextmanager
def png_figure(path: str | Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of so many inches, written to `path` at the end; other users of matplotlib notice nothing."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: Any = _STYLE | {"font.family": font_families()}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # A machine without a font for a class name shows boxes in its place; a line for each letter helps nobody.
        warnings.filterwarnings("ignore", message=".*missing from font.*")
        figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    write_file(Path(path), buffer.getvalue())
