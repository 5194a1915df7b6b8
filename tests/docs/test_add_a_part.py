"""The tutorial on adding a part, followed line by line: its files written, its commands run, its messages met."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from detrofit.cli import main
from detrofit.data.demo import draw_demo_dataset
from detrofit.parts import registry
from detrofit.parts.registry import get_part

PAGE = Path(__file__).parents[2] / "docs" / "add-a-part.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r'^```(\w*)(?: title="(.*?)")?\n(.*?)^```$', TEXT, flags=re.MULTILINE | re.DOTALL)
FILES = {title: body for _, title, body in BLOCKS if title}
COMMANDS = [line for kind, _, body in BLOCKS if not kind for line in body.splitlines()]
MESSAGES = [body.strip() for kind, _, body in BLOCKS if kind == "text"]
PROGRAMS = [body for kind, title, body in BLOCKS if kind == "python" and not title]
PART_FILE = "ghost_part.py"


def command(beginning: str) -> list[str]:
    """The words of the first command of the page that begins so."""
    return shlex.split(next(line for line in COMMANDS if line.startswith(beginning)))


def elsewhere(*words: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, which knows no part that this one has loaded."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(path or ""), *sys.path]))}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment, check=False)


@pytest.fixture(autouse=True)
def registered_here_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The page's part leaves the registry with its test."""
    get_part("none")
    monkeypatch.setattr(registry, "_PARTS", dict(registry._PARTS))
    loaded = set(sys.modules)
    yield
    for name in set(sys.modules) - loaded:
        if name.startswith("detrofit_plugin_"):
            del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the page's files and a few pictures of the demonstration."""
    folder = tmp_path / "my parts"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name, body in FILES.items():
        Path(name).write_text(body, encoding="utf-8")
    Path("demo").mkdir()
    draw_demo_dataset("demo/data", pictures={"train": 8, "val": 2, "test": 2}, size=(64, 64))
    return folder


def test_the_part_describes_itself_and_passes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command("detrofit parts ghost --plugin")[1:]) == 0
    assert "arXiv:1911.11907" in capsys.readouterr().out
    assert main(command("detrofit parts check")[1:]) == 0
    assert re.search(r"ghost: all \d+ checks passed", capsys.readouterr().out)


def test_the_checks_find_the_fault_that_the_page_shows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    without_range, changes = re.subn(r"expand: Annotated\[.*\] = 2.0", "expand: float = 2.0", FILES[PART_FILE])
    assert changes == 1
    Path(PART_FILE).write_text(without_range, encoding="utf-8")
    assert main(command("detrofit parts check")[1:]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert MESSAGES[0] in printed


def test_from_training_to_another_process(folder: Path) -> None:
    train = command("detrofit train")[1:]
    train[train.index("--epochs") + 1] = "1"
    assert main([*train, "--workers", "0"]) == 0
    predict, predict_with_plugin = (shlex.split(line)[1:] for line in COMMANDS if "detrofit predict" in line)
    refused = elsewhere("-m", "detrofit", *predict)
    assert (refused.returncode, refused.stderr.strip()) == (2, MESSAGES[1])
    found = elsewhere("-m", "detrofit", *predict_with_plugin)
    assert found.returncode == 0, found.stderr
    assert len(list((folder / "predictions").glob("*.jpg"))) == 2
    program = elsewhere("-c", PROGRAMS[0])
    assert program.stdout.strip().isdigit(), program.stderr


def test_as_a_package(folder: Path, tmp_path: Path) -> None:
    install = command("python -m pip install")[1:]
    site = tmp_path / "site"
    offline = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target", str(site)]
    installed = elsewhere(*install, *offline)
    assert installed.returncode == 0, installed.stderr
    Path(PART_FILE).unlink()
    shown = elsewhere("-m", "detrofit", *command("detrofit parts ghost")[1:3], path=site)
    assert "from: ghost-part 0.1.0" in shown.stdout, shown.stderr
