"""What a page is made of, as plain data; templates/ holds the HTML of each block, which escapes every text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

from detrofit.pages.colours import Series

BoxKind = Literal["truth", "found", "false", "missed"]
Tone = Literal["", "good", "bad", "soft", "strong"]


class Block(Protocol):
    """Anything with a template of its own, which reads it as `block`."""

    template: ClassVar[str]


@dataclass(frozen=True)
class Text:
    """A paragraph; a `note` is small and grey."""

    template: ClassVar[str] = "text.html"
    text: str
    note: bool = False


@dataclass(frozen=True)
class Notice:
    """Lines that must be read before what follows, in a frame: each a bold beginning and the rest."""

    template: ClassVar[str] = "notice.html"
    title: str
    lines: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Facts:
    """A few key numbers: what, and how much."""

    template: ClassVar[str] = "facts.html"
    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Column:
    """A column's heading; numbers stand right and are sorted as numbers, text stands left."""

    name: str
    numeric: bool = True


@dataclass(frozen=True)
class Cell:
    """A text; `small` stands under it, `value` sorts, a tone colours it, and `badge` puts it into a frame."""

    text: str
    small: str = ""
    tone: Tone = ""
    value: float | None = None
    badge: bool = False


@dataclass(frozen=True)
class Row:
    """Cells, the first of which names the row; with a series the row shows its colour and answers to its name."""

    cells: Sequence[Cell | str]
    series: Series | None = None


@dataclass(frozen=True)
class Table:
    """A table with a caption for those who cannot see it, which a click on a heading sorts.

    Attributes:
        groups: headings over several columns each, as (text, how many); none, or all columns are covered.
        compact: many columns or rows: smaller text.
    """

    template: ClassVar[str] = "table.html"
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    groups: Sequence[tuple[str, int]] = ()
    compact: bool = False


@dataclass(frozen=True)
class Code:
    """Text in a fixed font, as it stands."""

    template: ClassVar[str] = "code.html"
    text: str


@dataclass(frozen=True)
class Fold:
    """Blocks that a click on their title opens."""

    template: ClassVar[str] = "fold.html"
    title: str
    blocks: Sequence[Block]
    open: bool = False


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI, kept in the page once however often it is shown; boxes are in its pixels."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Box:
    """A box on a picture: xyxy in the picture's pixels. `found`, `false` and `missed` differ in colour and dash."""

    xyxy: tuple[float, float, float, float]
    kind: BoxKind
    text: str


@dataclass(frozen=True)
class Panel:
    """A picture with boxes over it and a line under it."""

    title: str
    picture: Picture
    boxes: Sequence[Box]
    alternative: str


@dataclass(frozen=True)
class PictureRow:
    """Panels side by side; more than three make rows."""

    template: ClassVar[str] = "pictures.html"
    title: str
    panels: Sequence[Panel]
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A heading that the contents list, and what stands under it."""

    title: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        """The heading as part of an address."""
        return slug(self.title)


@dataclass(frozen=True)
class Page:
    """A whole page.

    Attributes:
        title: its main heading, often a name that someone chose.
        kind: what sort of page it is, as "Detrofit study".
        lead: the sentence that says most.
        sections: in order; those without blocks are left out.
        series: what the legend lists, and what figures and tables share; may be empty.
        head: blocks between title and first section.
    """

    title: str
    kind: str
    lead: str
    sections: Sequence[Section]
    series: Sequence[Series] = ()
    head: Sequence[Block] = field(default=())


def slug(text: str) -> str:
    """A text as part of a file's name or an address: letters, digits and hyphens, never empty."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"
