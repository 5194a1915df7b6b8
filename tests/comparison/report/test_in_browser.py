"""The report in a real browser: what it asks for, what its figures hold, and that they answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from detrofit.comparison.report.files import write_reports
from tests.comparison.report_cases import WHOLE, drawn_study, fail
from tests.pages.browser import Browser, headless_browser

EPOCHS = 5
TRAINED = [each for each in WHOLE if each.kind != "external"]
SHOWN = ".chart .{} .mark"


@dataclass
class Opened:
    browser: Browser
    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "report.html"


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """The report of a study with everything, in a folder with a space in its name."""
    with headless_browser() as browser:
        folder = tmp_path_factory.mktemp("a report")
        write_reports(fail(drawn_study(epochs=EPOCHS), "extradw, nwd", 3, "the loss was not finite"), folder)
        yield Opened(browser, folder)


def test_no_request_leaves_the_file(opened: Opened) -> None:
    opened.browser.requests()
    opened.browser.open(opened.file, 1280)
    assert opened.browser.requests() == [opened.file.as_uri()]
    assert opened.browser.run("return performance.getEntriesByType('resource').length") == 0
    assert opened.browser.complaints() == []


def test_figures_have_a_mark_for_each_number(opened: Opened) -> None:
    opened.browser.open(opened.file, 1280)
    counts = {
        figure.get_attribute("id"): [
            opened.browser.run(f"return arguments[0].querySelectorAll('.{form} .mark').length", figure)
            for form in ("wide", "narrow")
        ]
        for figure in opened.browser.find(".chart")
    }
    costs = ("latency-study-torch", "latency-study-onnxruntime", "latency-study-openvino", "gflops", "parameters")
    expected = {"chart-forest": len(WHOLE) - 1, "chart-curves": EPOCHS * len(TRAINED)}
    expected |= {f"chart-pareto-{cost}": len(TRAINED) for cost in costs}
    assert counts == {name: [number, number] for name, number in expected.items()}


def test_each_figure_stands_beside_the_page_as_svg_and_pdf(opened: Opened) -> None:
    opened.browser.open(opened.file, 1280)
    names = {figure.get_attribute("id").removeprefix("chart-") for figure in opened.browser.find(".chart")}
    assert {file.name for file in (opened.folder / "figures").iterdir()} == {
        f"{name}.{form}" for name in names for form in ("svg", "pdf")
    }
    for file in (opened.folder / "figures").glob("*.svg"):
        assert ElementTree.parse(file).getroot().tag == "{http://www.w3.org/2000/svg}svg"
        assert "var(" not in file.read_text("utf-8"), "it has colours of its own"


@pytest.mark.parametrize(("width", "form"), [(1280, "wide"), (390, "narrow")])
def test_tooltips_answer_and_the_variant_stands_out_everywhere(opened: Opened, width: int, form: str) -> None:
    browser = opened.browser
    browser.open(opened.file, width)
    assert browser.run("return document.getElementById('tip').hidden")
    mark = browser.find(f"#chart-curves .{form} .mark[data-series='1']")[-1]
    browser.hover(mark)
    tip = browser.find("#tip")[0]
    assert tip.is_displayed() and tip.text.startswith(f"extradw\nepoch {EPOCHS}: AP ")
    assert tip.rect["x"] >= 0 and tip.rect["x"] + tip.rect["width"] <= width
    dimmed = browser.run("return [...document.querySelectorAll('.chart .dim')].map(e => e.dataset.series)")
    assert set(dimmed) == {"0", "2", "3", "4", "5"}, "all but the one under the mouse, in every figure"
    assert browser.run("return document.querySelectorAll('tr.lit').length") > 2
    browser.hover(browser.find("h1")[0])
    assert not browser.find("#tip")[0].is_displayed() and not browser.find(".dim")


def test_the_keyboard_walks_over_the_marks(opened: Opened) -> None:
    from selenium.webdriver.common.keys import Keys

    opened.browser.open(opened.file, 1280)
    figure = opened.browser.find("#chart-forest .wide svg")[0]
    opened.browser.run("arguments[0].focus()", figure)
    figure.send_keys(Keys.ARROW_DOWN)
    figure.send_keys(Keys.ARROW_DOWN)
    assert opened.browser.find("#tip")[0].text.startswith("extradw, nwd: ")
    figure.send_keys(Keys.ESCAPE)
    assert not opened.browser.find("#tip")[0].is_displayed()


def test_the_legend_takes_a_variant_out_of_the_figures(opened: Opened) -> None:
    browser = opened.browser
    browser.open(opened.file, 1280)
    button = browser.find(".legend button[data-series='3']")[0]
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    parts = "[...document.querySelectorAll('.wide [data-series=\"3\"]')]"
    shown = f"return {parts}.filter(part => part.getClientRects().length).length"
    assert browser.run(shown) == 0
    button.click()
    assert browser.run(shown) > 0


def test_headings_sort_their_table(opened: Opened) -> None:
    browser = opened.browser
    browser.open(opened.file, 1280)
    browser.find("#verdicts thead button")[2].click()
    shown = browser.run(
        "return [...document.querySelectorAll('#verdicts tbody tr td:nth-child(3)')].map(e => e.innerText)"
    )
    *ordered, last = [text.split()[0].replace("−", "-") for text in shown]
    assert last == "–", "the base, which has no difference, comes last"
    assert [float(text) for text in ordered] == sorted(float(text) for text in ordered)


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_the_page_never_scrolls_sideways(opened: Opened, width: int) -> None:
    opened.browser.open(opened.file, width)
    assert opened.browser.run("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [1280, 390])
def test_it_follows_light_and_dark(opened: Opened, width: int, tmp_path: Path) -> None:
    brightness = {}
    for dark in (False, True):
        opened.browser.open(opened.file, width, dark=dark)
        shot = opened.browser.screenshot(tmp_path / f"{width}-{dark}.png")
        with Image.open(shot) as image:
            assert image.width == width
            brightness[dark] = float(np.asarray(image.convert("L")).mean())
    assert brightness[False] > 225 and brightness[True] < 60
    opened.browser.find(".theme")[0].click()
    assert opened.browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_it_is_readable_without_script(opened: Opened) -> None:
    opened.browser.open(opened.file, 1280, script=False)
    text = opened.browser.find("#chart-forest")[0].text
    assert all(each.name in text for each in WHOLE[1:]), "rows are labelled"
    assert opened.browser.find("#chart-curves .wide .mark title"), "the browser's own tooltips"
    opened.browser.open(opened.file, 1280)
