"""A page as one HTML file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detrofit.pages.blocks import Block, Fold, Page, PictureRow
from detrofit.pages.colours import css_variables

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from markupsafe import Markup

TEMPLATES = Path(__file__).with_name("templates")
_AFTER_DOT = re.compile(r"(?<=\.)(?=[a-z])")


def render_page(page: Page) -> str:
    """The page's HTML: it asks for nothing outside itself, and all of its texts are escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    sections = [section for section in page.sections if section.blocks]
    blocks = [*page.head, *(block for section in sections for block in section.blocks)]
    pictures = {uri: f"picture{number}" for number, uri in enumerate(dict.fromkeys(_pictures(blocks)))}
    values: dict[str, Any] = {"page": page, "sections": sections, "colours": css_variables(), "pictures": pictures}
    return environment.get_template("page.html").render(values)


def _breakable(text: str) -> Markup:
    """A text whose lines may break after the dots of an address, as in `backbone.stage4.block`."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(map(escape, _AFTER_DOT.split(text)))


def _pictures(blocks: Iterable[Block]) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, PictureRow):
            yield from (panel.picture.uri for panel in block.panels)
        elif isinstance(block, Fold):
            yield from _pictures(block.blocks)
