from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from detrofit.pages.blocks import (
    Box,
    Cell,
    Code,
    Column,
    Facts,
    Fold,
    Notice,
    Page,
    Panel,
    Picture,
    PictureRow,
    Row,
    Section,
    Table,
    Text,
    slug,
)  # fmt: skip
from detrofit.pages.charts import Chart, Sheet, draw_chart, short
from detrofit.pages.colours import THEME, Series
from detrofit.pages.render import render_page

EVIL = "</script><script>alert(1)</script>\" onload='x' & $a_b$ {{ page }}"
PAIR = (Series("base", 0), Series(EVIL, 1))


def draw(sheet: Sheet) -> None:
    axes = sheet.figure.subplots()
    for series in PAIR:
        sheet.paint(series, *axes.plot([0, 1], [0, 1 + series.number], color=series.colour))
        sheet.mark(axes, 1, 1 + series.number, f"{series.name} ends", series)
    axes.set_title(EVIL)


@pytest.fixture(scope="module")
def chart() -> Chart:
    return draw_chart("lines", EVIL, draw, caption=EVIL, alternative=EVIL, height=200)


def whole_page(chart: Chart) -> Page:
    picture = Picture("data:image/jpeg;base64,AAAA", 40, 30)
    panel = Panel(EVIL, picture, [Box((1, 2, 11, 12), "found", EVIL)], EVIL)
    table = Table(EVIL, [Column(EVIL), Column(EVIL, numeric=False)], [Row([EVIL, Cell(EVIL, small=EVIL)], PAIR[1])])
    blocks = [
        Text(EVIL),
        Notice(EVIL, [(EVIL, EVIL)]),
        table,
        chart,
        Code(EVIL),
        PictureRow(EVIL, [panel, panel], EVIL),
    ]
    sections = [
        Section(EVIL, blocks),
        Section("Folded", [Fold(EVIL, [PictureRow("again", [panel])])]),
        Section("no", []),
    ]
    return Page(EVIL, EVIL, EVIL, sections, PAIR, [Facts([(EVIL, EVIL)])])


class Tags(HTMLParser):
    """Every element is closed in order; which ones there are, with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_no_text_becomes_markup(chart: Chart) -> None:
    tags = Tags()
    tags.feed(render_page(whole_page(chart)))
    assert tags.open == []
    assert [tag for tag, _ in tags.found].count("script") == 1
    assert not any(name.startswith("on") for _, attributes in tags.found for name in attributes)


def test_a_page_asks_for_nothing_and_keeps_a_picture_once(chart: Chart) -> None:
    page = render_page(whole_page(chart))
    addresses = re.findall(r"""(?:src|href)="([^"]*)"|url\(([^)]*)\)|@import""", page)
    assert all(one.startswith("#") or two.startswith(("#", "data:")) for one, two in addresses), addresses
    assert page.count("data:image/jpeg;base64,AAAA") == 1


def test_a_section_without_blocks_is_left_out(chart: Chart) -> None:
    assert 'id="no"' not in render_page(whole_page(chart))


def test_a_drawing_in_a_page_follows_its_colours_and_does_not_rule_it(chart: Chart) -> None:
    for drawing in (chart.wide, chart.narrow):
        assert "var(--series1)" in drawing and THEME["ink"][0] not in drawing and "<style" not in drawing
        assert drawing.count('class="mark"') == 2
    ids = re.findall(r' id="([^"]*)"', chart.wide + chart.narrow)
    assert len(set(ids)) == len(ids), "an id is one element's, also with several drawings in a page"
    links = set(re.findall(r"#([\w-]+)", chart.wide + chart.narrow))
    assert links <= set(ids), "what an element refers to is there"


def test_marks_lie_on_what_they_tell(chart: Chart) -> None:
    root = ElementTree.fromstring(chart.wide)
    svg = "{http://www.w3.org/2000/svg}"
    groups = [group for group in root.iter(f"{svg}g") if group.get("data-series")]
    circles = [group.find(f"{svg}circle") for group in groups if group.get("class") == "mark"]
    paths = [group.find(f"{svg}path") for group in groups if group.get("class") != "mark"]
    assert len(circles) == len(paths) == 2
    for circle, path in zip(circles, paths, strict=True):
        assert circle is not None and path is not None
        ends = re.findall(r"L ([\d.]+) ([\d.]+)", path.get("d", ""))[-1]
        assert [float(circle.get(name, 0)) for name in ("cx", "cy")] == pytest.approx(list(map(float, ends)), abs=0.1)


def test_files_of_a_chart_stand_alone_and_come_out_the_same(chart: Chart) -> None:
    assert chart.pdf.startswith(b"%PDF")
    assert "var(" not in chart.svg and PAIR[1].colour in chart.svg
    again = draw_chart("lines", EVIL, draw, caption="", alternative="", height=200)
    assert (again.svg, again.pdf) == (chart.svg, chart.pdf)


def test_names_are_shortened_in_the_middle() -> None:
    assert short("name") == "name"
    long = "backbone.stage4.block=extradw, expand 2, seed-wise"
    assert len(short(long, 20)) == 20 and short(long, 20).startswith("backbone") and short(long, 20).endswith("wise")


@pytest.mark.parametrize(("text", "expected"), [("AP by Size!", "ap-by-size"), ("对比", "x"), ("../../etc", "etc")])
def test_slugs(text: str, expected: str) -> None:
    assert slug(text) == expected


def test_names_of_rows_may_break_after_the_dots_of_an_address() -> None:
    rows = [Row(["backbone.stage4.block", "a.b"]), Row([Cell("at IoU 0.5 <b.c>"), "x"])]
    page = render_page(Page("t", "k", "", [Section("s", [Table("c", [Column("one"), Column("two")], rows)])]))
    for text in ("backbone.<wbr>stage4.<wbr>block</th>", "a.b</td>", "at IoU 0.5 &lt;b.<wbr>c&gt;</span>"):
        assert text in page
