"""The commands of the guides and of README, run as they are printed in a folder with the demonstration's data.

Only these are replaced, so that a page takes a minute instead of hours: the numbers after `--epochs`, `--seeds`,
`--rounds`, `--masks` and `--imgsz`, the same in the pages' YAML files, and the demonstration's data, of which there are
fewer pictures. A page that says `The commands run as they stand` is run whole; of all pages the commands and options
are checked, those inside sentences too.
"""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
import torch

from detrofit import build
from detrofit.cli import main
from detrofit.cli.discovery import command_outlines, import_command
from detrofit.config.load import setting_keys
from detrofit.data.demo import draw_demo_dataset
from detrofit.model.frame import Frame
from detrofit.parts import registry
from detrofit.parts.registry import get_part
from tests.weights.layouts import ultralytics

ROOT = Path(__file__).parents[2]
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
READMES = (ROOT / "README.md", ROOT / "README.zh-CN.md")
PAGES = {page.name: page for page in (*GUIDES, *sorted((ROOT / "docs").glob("*.md")), *READMES)}
PROMISE = "The commands run as they stand"
RUN = [name for name, page in PAGES.items() if PROMISE in page.read_text(encoding="utf-8")]
SMALLER = {
    r"(--epochs |epochs: )\d+": r"\g<1>1",
    r"(--seeds |seeds: )\d+": r"\g<1>2",
    r"--rounds \d+": "--rounds 6",
    r"--masks \d+": "--masks 2",
    r"(--imgsz |imgsz: )(160|128)": r"\g<1>64",
    r"--imgsz (224|96)": "--imgsz 96",
}


def blocks(text: str) -> list[tuple[str, str, str]]:
    """Language, title and body of each fenced block, also of those in lists."""
    found = re.findall(r'^( *)```(\w*)(?: title="(.*?)")?\n(.*?)^\1```$', text, flags=re.MULTILINE | re.DOTALL)
    return [(kind, title, re.sub(f"^{indent}", "", body, flags=re.MULTILINE)) for indent, kind, title, body in found]


def commands(text: str) -> list[list[str]]:
    """The words of each `detrofit` command in a page's console blocks, or README's plain ones; no comments."""
    lines = [
        line
        for kind, _, body in blocks(text)
        if kind in ("console", "sh", "")
        for line in body.replace("\\\n", " ").splitlines()
    ]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("detrofit ")]


def mentioned(text: str) -> list[list[str]]:
    """The words of each `detrofit` command inside a sentence, in which `...` may stand for more."""
    return [shlex.split(words) for words in re.findall(r"`detrofit\s([a-z][^`]*)`", text)]


def smaller(text: str) -> str:
    for pattern, replacement in SMALLER.items():
        text = re.sub(pattern, replacement, text)
    return text


def known_options(words: list[str]) -> set[str]:
    """The options of the command that the words begin with."""
    outlines = {outline.name: outline for outline in command_outlines("detrofit.cli")}
    assert words[0] in outlines, f"there is no command detrofit {words[0]}"
    command = import_command(outlines[words[0]])
    if outlines[words[0]].is_group and len(words) > 1:
        context = command.make_context(words[0], words[1:2], resilient_parsing=True)
        command = command.resolve_command(context, words[1:2])[1]
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("name", PAGES)
def test_every_command_and_option_exists(name):
    text = PAGES[name].read_text(encoding="utf-8")
    for words in (*commands(text), *mentioned(text)):
        if not words[0].startswith("-"):
            given = {word.partition("=")[0] for word in words if word.startswith("--")}
            assert given <= known_options(words) | {"--help"}, words


@pytest.mark.parametrize("name", PAGES)
def test_every_setting_that_a_page_names_exists(name):
    known = {*setting_keys(), *(f"model.{key}" for key in Frame.model_fields)}
    text = re.sub(r"```python.*?```", "", PAGES[name].read_text(encoding="utf-8"), flags=re.DOTALL)
    named = re.findall(r"(?<![/\w.])((?:train|augment|model)\.(?!safetensors|json|md)[a-z_]+)\b", text)
    assert set(named) <= known


@pytest.mark.parametrize("name", PAGES)
def test_every_name_that_a_page_imports_exists(name):
    for kind, _, body in blocks(PAGES[name].read_text(encoding="utf-8")):
        if kind == "python":
            for statement in ast.walk(ast.parse(body)):
                if isinstance(statement, ast.ImportFrom) and (statement.module or "").partition(".")[0] == "detrofit":
                    module = importlib.import_module(statement.module)
                    assert not [each.name for each in statement.names if not hasattr(module, each.name)], module


def test_the_guides_promise_to_run():
    promised = {"small-objects.md", "few-images.md", "class-imbalance.md", "edge-cpu.md", "ablation-table.md"}
    assert promised | {"from-ultralytics.md"} <= set(RUN)
    assert all(commands(PAGES[name].read_text(encoding="utf-8")) for name in RUN)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a few pictures of the demonstration; parts that a page adds leave with it."""
    folder = tmp_path / "a project"
    pictures = {"train": 8, "val": 4, "test": 4}
    draw_demo_dataset(folder / "demo" / "data", 0, pictures=pictures)
    monkeypatch.chdir(folder)
    get_part("none")
    monkeypatch.setattr(registry, "_PARTS", dict(registry._PARTS))
    loaded = set(sys.modules)
    yield folder
    for module in set(sys.modules) - loaded:
        if module.startswith("detrofit_plugin_"):
            del sys.modules[module]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*RUN, "README.md"])
def test_every_command_runs_as_printed(name, folder, capsys):
    text = PAGES[name].read_text(encoding="utf-8")
    for kind, title, body in blocks(text):
        if title:
            (folder / title).write_text(smaller(body), encoding="utf-8")
        elif kind == "python" and "@part(" in body:
            (folder / "my_part.py").write_text(body, encoding="utf-8")
    if "yours.pt" in text:  # a checkpoint as an Ultralytics fork leaves it
        torch.save({"model": ultralytics(build("rtdetr-l", num_classes=5).state_dict(), "l")}, "yours.pt")
    for words in commands(smaller(text)):
        if words == ["demo"]:  # its data are there already, and it trains for minutes
            continue
        if words[0] == "serve":
            threading.Thread(target=interrupt_the_server, daemon=True).start()
        code = main(words)
        assert code == 0, (words, capsys.readouterr().err)


def interrupt_the_server() -> None:
    """Ctrl-C once the server on its usual port answers, or has not for a minute."""
    for _ in range(60):
        try:
            with urlopen("http://127.0.0.1:8000/health"):
                break
        except OSError:
            time.sleep(1)
    signal.raise_signal(signal.SIGINT)
