"""The page of a server in a real browser: a picture, the slider, a wrong file, the token, a phone in the dark."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.pages.browser import Browser, headless_browser
from tests.server.process import Served, served

PHONE, DESK = (390, 844), (1280, 800)


class Page:
    """What a person does on the page, and sees."""

    def __init__(self, browser: Browser, server: Served) -> None:
        self.browser, self.server = browser, server
        self.driver = browser.driver

    def open(self, size: tuple[int, int] = DESK, dark: bool = False) -> None:
        self.browser.open(self.server.address, *size, dark=dark)
        self.wait(lambda: "by hand.onnx finds dark, light" in self.text("model"))

    def give(self, file: Path) -> None:
        self.driver.find_element("id", "file").send_keys(str(file))

    def slide_to(self, score: float) -> None:
        script = "threshold.value = arguments[0]; threshold.dispatchEvent(new Event('input'))"
        self.driver.execute_script(f"const threshold = document.getElementById('threshold'); {script}", score)

    def text(self, identity: str) -> str:
        return str(self.driver.find_element("id", identity).text)

    def boxes(self) -> list[dict[str, float]]:
        """Where the boxes are on the screen, relative to the picture, as shares of it."""
        script = """
            const of = each => each.getBoundingClientRect(), image = of(document.getElementById("image"));
            return [...document.querySelectorAll(".edge:not(.under)")].map(of).map(box => ({
              x1: (box.left - image.left) / image.width, y1: (box.top - image.top) / image.height,
              x2: (box.right - image.left) / image.width, y2: (box.bottom - image.top) / image.height}))"""
        return list(self.driver.execute_script(script))

    def wait(self, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 15
        while not ready():
            assert time.monotonic() < deadline, "the page does not get there"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with headless_browser() as browser, served(tmp_path_factory.mktemp("model")) as server:
        browser.driver.implicitly_wait(10)
        yield Page(browser, server)


def picture(folder: Path, name: str = "my picture.png", grey: int = 153) -> Path:
    Image.new("L", (300, 200), grey).save(folder / name)
    return folder / name


def test_a_picture_shows_its_boxes_and_the_slider_hides_them(page: Page, tmp_path: Path) -> None:
    page.open()
    page.give(picture(tmp_path))
    page.wait(lambda: page.text("count") == "1 object")
    assert "my picture.png, 300 × 200" in page.text("told") and page.text("value") == "25 %"
    (box,) = page.boxes()
    assert box == pytest.approx({"x1": 0.25, "y1": 0.25, "x2": 0.75, "y2": 0.75}, abs=0.01)
    assert page.text("rows").split() == ["light", "60", "%", "150", "×", "100"]
    page.browser.hover(page.browser.find("#rows tr")[0])
    assert len(page.browser.find("#boxes.lit .box.lit")) == 1, "the row under the mouse lights its box"
    page.slide_to(0.61)
    assert page.text("count") == "Nothing found" and page.boxes() == [] and page.text("value") == "61 %"
    page.slide_to(0.59)
    assert page.text("count") == "1 object" and len(page.boxes()) == 1
    page.driver.find_element("css selector", "#classes button").click()
    assert page.text("count") == "Nothing found", "its class is switched off"
    page.driver.execute_script(
        "window.asked = []; const real = fetch;"
        "window.fetch = (path, options) => { asked.push(String(path)); return real(path, options); };"
    )
    page.driver.find_element("css selector", "#save-png").click()
    page.wait(lambda: page.driver.execute_script("return asked.length") == 1)
    assert "hide=1" in page.driver.execute_script("return asked[0]"), "nor is it on the picture that is saved"


def test_a_picture_may_be_dropped_anywhere(page: Page, tmp_path: Path) -> None:
    page.open()
    drop = """
        const bytes = Uint8Array.from(atob(arguments[0]), letter => letter.charCodeAt(0));
        const dragged = new DataTransfer();
        dragged.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
        for (const kind of ["dragenter", "dragover", "drop"]) {
          const event = new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: dragged });
          document.querySelector("h1").dispatchEvent(event);
          if (kind === "dragenter" && !document.body.classList.contains("over")) throw new Error("no sign to let go");
        }"""
    page.browser.run(drop, base64.b64encode(picture(tmp_path).read_bytes()).decode())
    page.wait(lambda: page.text("count") == "1 object")
    assert "dropped.png" in page.text("told")
    assert not page.browser.run("return document.body.classList.contains('over')")


def test_it_asks_only_its_own_server(page: Page, tmp_path: Path) -> None:
    page.browser.requests()
    page.open()
    page.give(picture(tmp_path))
    page.wait(lambda: page.text("count") == "1 object")
    asked = [url for url in page.browser.requests() if not url.startswith(("blob:", "data:"))]
    assert asked and all(url.startswith(page.server.address) for url in asked)
    assert [line for line in page.browser.complaints() if " 422 " not in line] == []


def test_a_picture_that_browsers_cannot_show_comes_from_the_server(page: Page, tmp_path: Path) -> None:
    page.open()
    page.give(picture(tmp_path, "scan.tiff"))
    page.wait(lambda: page.text("count") == "1 object")
    assert page.driver.execute_script("return document.getElementById('image').naturalWidth") == 300


def test_a_wrong_file_says_so_and_the_next_one_works(page: Page, tmp_path: Path) -> None:
    page.open()
    (tmp_path / "notes.txt").write_text("no picture")
    page.give(tmp_path / "notes.txt")
    page.wait(lambda: "notes.txt: " in page.text("error"))
    assert "not a picture in a known format" in page.text("error")
    assert not page.driver.find_element("id", "side").is_displayed()
    page.give(picture(tmp_path))
    page.wait(lambda: page.text("count") == "1 object")
    assert not page.driver.find_element("id", "error").is_displayed()


def test_a_file_that_is_too_large_is_not_even_sent(page: Page, tmp_path: Path) -> None:
    page.open()
    (tmp_path / "large.png").write_bytes(bytes(21 << 20))
    page.give(tmp_path / "large.png")
    page.wait(lambda: "large.png has 21 MB; this server takes 20 MB" in page.text("error"))


def test_nothing_is_wider_than_a_phone(page: Page, tmp_path: Path) -> None:
    page.open(PHONE, dark=True)
    page.give(picture(tmp_path, "a picture with quite a long name, as phones give them, 2026-11-25 12.00.00.png"))
    page.wait(lambda: page.text("count") == "1 object")
    assert page.driver.execute_script("return document.documentElement.scrollWidth") <= PHONE[0]
    assert page.driver.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    (box,) = page.boxes()
    assert box == pytest.approx({"x1": 0.25, "y1": 0.25, "x2": 0.75, "y2": 0.75}, abs=0.02)


@pytest.mark.slow
def test_the_page_asks_for_the_token_and_goes_on(page: Page, tmp_path: Path) -> None:
    with served(tmp_path, "--token", "open sesame") as guarded:
        other = Page(page.browser, guarded)
        other.open()
        other.give(picture(tmp_path))
        other.wait(lambda: "asks for its token" in other.text("error"))
        other.driver.find_element("id", "token").send_keys("“open sesame”\n")
        other.wait(lambda: "ASCII letters, digits and signs only" in other.text("error"))
        other.driver.find_element("id", "token").clear()
        other.driver.find_element("id", "token").send_keys("open sesame\n")
        other.wait(lambda: other.text("count") == "1 object")
