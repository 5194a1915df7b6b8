"""From a drawing of matplotlib's to SVG inside a page: the page's colours, its fonts, and marks under the mouse."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from detrofit.pages.colours import css_variables

_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"
_BELONGS = re.compile(r"series-(\d+)-\d+")
_FONT = re.compile(r"font: (?P<weight>bold |[5-9]00 )?(?P<size>[\d.]+px)[^;]*")
_COLOURS = {light: f"var({name})" for name, (light, _) in css_variables().items()}


@dataclass(frozen=True)
class Mark:
    """A place in a drawing that tells a text: a rectangle in its units, or the circle inside it."""

    left: float
    top: float
    width: float
    height: float
    round: bool
    text: str
    series: int | None


def page_svg(drawing: str, prefix: str, alternative: str, marks: Sequence[Mark]) -> Any:
    """The drawing as markup for a page: all ids begin with `prefix`, colours follow the page's light or dark."""
    from markupsafe import Markup

    root = ElementTree.fromstring(drawing)
    _strip(root)
    for element in root.iter():
        _adopt(element, prefix)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib |= {"role": "img", "aria-label": alternative}
    root.extend(_mark(mark) for mark in marks)
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _LINK[1:-5])
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _strip(parent: Any) -> None:
    """Without the background, and without matplotlib's own style, which would rule the whole page."""
    for child in list(parent):
        if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style") or child.get("id") == "background":
            parent.remove(child)
        else:
            _strip(child)


def _adopt(element: Any, prefix: str) -> None:
    identity = element.attrib.pop("id", None)
    belongs = _BELONGS.fullmatch(identity or "")
    if belongs:
        element.set("data-series", belongs[1])
    elif identity and not element.tag.endswith("}g"):
        element.set("id", f"{prefix}-{identity}")
    for name, value in list(element.attrib.items()):
        if name == _LINK:
            element.attrib.pop(name)
            element.set("href", value.replace("#", f"#{prefix}-", 1))
        elif name in ("style", "fill", "stroke", "clip-path"):
            element.set(name, _restyled(value, prefix))


def _restyled(value: str, prefix: str) -> str:
    value = value.replace("url(#", f"url(#{prefix}-")
    value = re.sub("#[0-9a-f]{6}", lambda found: _COLOURS.get(found[0], found[0]), value)
    return _FONT.sub(lambda font: f"font-size: {font['size']}; font-weight: {font['weight'] or '400'}", value)


def _mark(mark: Mark) -> Any:
    group = ElementTree.Element(f"{{{_SVG}}}g", {"class": "mark"})
    if mark.series is not None:
        group.set("data-series", str(mark.series))
    ElementTree.SubElement(group, f"{{{_SVG}}}title").text = mark.text
    if mark.round:
        centre = {"cx": mark.left + mark.width / 2, "cy": mark.top + mark.height / 2, "r": mark.width / 2}
        shape, numbers = "circle", centre
    else:
        shape = "rect"
        numbers = {"x": mark.left, "y": mark.top, "width": mark.width, "height": mark.height}
    ElementTree.SubElement(group, f"{{{_SVG}}}{shape}", {name: f"{value:.1f}" for name, value in numbers.items()})
    return group
