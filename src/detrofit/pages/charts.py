"""A chart, drawn once in code: the page's two drawings of it (wide and narrow), and SVG and PDF files for a paper."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from detrofit.drawing import WIDE_FAMILIES
from detrofit.pages.blocks import Table
from detrofit.pages.colours import Series, ink
from detrofit.pages.svg import Mark, page_svg

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

UNITS = 72  # of a drawing, an inch; on a page a unit is about a pixel
WIDE, NARROW = 760, 370  # units
POINT_REACH = 9.0  # units around a point that belong to it

_STYLE: dict[str, Any] = {
    "font.size": 12.5,
    "axes.labelsize": 12.5,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "text.parse_math": False,  # a name with dollars is no formula
    "text.color": ink("ink"),
    "axes.labelcolor": ink("soft"),
    "xtick.color": ink("soft"),
    "ytick.color": ink("soft"),
    "axes.edgecolor": ink("soft"),
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "grid.color": ink("line"),
    "grid.linewidth": 0.8,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "figure.facecolor": ink("paper"),
    "figure.dpi": UNITS,
    "savefig.dpi": UNITS,
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
    "svg.fonttype": "none",
    "svg.hashsalt": "detrofit",
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class Chart:
    """A block of a page, and the files that go with it.

    Attributes:
        name: the stem of its files, and part of its address in the page; letters, digits and hyphens.
        alternative: what it shows, in words, for those who cannot see it.
        wide, narrow: SVG in the page's colours, as markup.
        svg, pdf: for other documents, in colours of their own, on white.
        numbers: the same as a table, if the page has it nowhere else.
    """

    template: ClassVar[str] = "chart.html"
    name: str
    title: str
    caption: str
    alternative: str
    wide: Any
    narrow: Any
    svg: str
    pdf: bytes
    numbers: Table | None = None


@dataclass(frozen=True)
class Pair:
    """Charts side by side in their narrow form, two in a row where there is room."""

    template: ClassVar[str] = "pair.html"
    charts: Sequence[Chart]


@dataclass(frozen=True)
class _Place:
    """Where a mark is, in the data of its axes: a point, or without x a row of such a height."""

    axes: Axes
    x: float | None
    y: float
    height: float
    text: str
    series: int | None

    def mark(self, width: float, bottom: float) -> Mark:
        """In units of a drawing so wide whose lower end is `bottom`."""
        _, up = self.axes.transData.transform((0 if self.x is None else self.x, self.y))
        if self.x is not None:
            across, _ = self.axes.transData.transform((self.x, self.y))
            side = 2 * POINT_REACH
            return Mark(across - side / 2, bottom - up - side / 2, side, side, True, self.text, self.series)
        _, end = self.axes.transData.transform((0, self.y + self.height / 2))
        half = abs(end - up)
        return Mark(0, bottom - up - half, width, 2 * half, False, self.text, self.series)


@dataclass
class Sheet:
    """What a chart is drawn on: a matplotlib figure that notes what belongs to whom and what answers to the mouse."""

    figure: Figure
    narrow: bool
    places: list[_Place] = field(default_factory=list)
    painted: int = 0

    def paint(self, series: Series, *artists: Artist) -> None:
        """These belong to the series, and fade or go with it."""
        for artist in artists:
            self.painted += 1
            artist.set_gid(f"series-{series.number}-{self.painted}")

    def mark(self, axes: Axes, x: float, y: float, text: str, series: Series | None = None) -> None:
        """The point at x, y (in data) tells `text` under the mouse; lines are divided by line breaks."""
        self.places.append(_Place(axes, x, y, 0.0, text, None if series is None else series.number))

    def mark_row(self, axes: Axes, y: float, height: float, text: str, series: Series | None = None) -> None:
        """As `mark`, for a row of the sheet's whole width around y, so many units of data high."""
        self.places.append(_Place(axes, None, y, height, text, None if series is None else series.number))

    def marks(self) -> list[Mark]:
        """Where the marks are in the drawing, known once it is laid out."""
        box = self.figure.bbox
        return [place.mark(box.width, box.height) for place in self.places]


def draw_chart(
    name: str,
    title: str,
    draw: Callable[[Sheet], None],
    *,
    caption: str,
    alternative: str,
    height: float,
    narrow_height: float | None = None,
    numbers: Table | None = None,
) -> Chart:
    """The chart that `draw` draws, once on a wide and once on a narrow sheet (`sheet.narrow`); heights in units."""
    wide, marks, pdf = _drawing(draw, WIDE, height, False)
    narrow, narrow_marks, _ = _drawing(draw, NARROW, narrow_height or height, True)
    return Chart(
        name, title, caption, alternative,
        page_svg(wide, f"{name}-wide", alternative, marks),
        page_svg(narrow, f"{name}-narrow", alternative, narrow_marks),
        wide, pdf, numbers,
    )  # fmt: skip


def short(text: str, most: int = 26) -> str:
    """A name that fits; of a longer one the beginning and the end, which tell names apart."""
    if len(text) <= most:
        return text
    end = most // 3
    return f"{text[: most - end - 1]}…{text[-end:]}"


def _drawing(draw: Callable[[Sheet], None], width: float, height: float, narrow: bool) -> tuple[str, list[Mark], bytes]:
    from matplotlib.figure import Figure

    with chart_style():
        figure = Figure(figsize=(width / UNITS, height / UNITS), layout="constrained")
        figure.patch.set_gid("background")
        sheet = Sheet(figure, narrow)
        draw(sheet)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once for all files
        text, pdf = io.StringIO(), io.BytesIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": "Detrofit"})
        marks = sheet.marks()
        if not narrow:
            figure.savefig(pdf, format="pdf", metadata={"CreationDate": None, "Creator": "Detrofit"})
        return text.getvalue(), marks, pdf.getvalue()


@contextmanager
def chart_style() -> Iterator[None]:
    """The style of all charts, inside the context alone."""
    import matplotlib

    style: Any = _STYLE | {"font.family": font_families()}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # A machine without a font for a name shows boxes in its place; a line for each letter helps nobody.
        warnings.filterwarnings("ignore", message=".*missing from font.*")
        yield


def font_families() -> list[str]:
    """matplotlib's own font, and for other scripts those of this machine that have them."""
    from matplotlib import font_manager

    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in WIDE_FAMILIES if name in installed)]
