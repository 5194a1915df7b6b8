from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from detrofit.cli.app import main, run
from detrofit.cli.discovery import CommandFolder, command_outlines

COMMANDS = {
    "__init__.py": "",
    "_shared.py": "def _shared(): ...",
    "helper.py": 'def something_else():\n    """Not a command: the function is not named like the file."""',
    "measure.py": '''
raise RuntimeError("imported by the list of commands")

def measure():
    """Measure a thing.

    At length.
    """
''',
    "greet.py": '''
from typing import Annotated
import typer

def greet(name: str, times: Annotated[int, typer.Option(help="How often [often].")] = 1) -> None:
    """Greet somebody."""
    print("hello " * times + name)
''',
    "import_.py": 'def import_():\n    """Bring something in."""\n    print("imported")',
    "lint_code.py": 'def lint_code() -> int:\n    """Find faults."""\n    return 1',
    "broken.py": '''
from detrofit.errors import DetrofitError

def broken(kind: str) -> None:
    """Go wrong in one of many ways."""
    if kind == "user":
        raise DetrofitError("no data at 'here'")
    if kind == "interrupt":
        raise KeyboardInterrupt
    if kind == "file":
        open("/no/such/file")
    if kind == "extra":
        raise ModuleNotFoundError("No module named 'torch'", name="torch")
    if kind == "memory":
        raise type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate 2 GiB")
    if kind == "worker":
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    if kind == "runtime":
        raise RuntimeError("a fault")
    if kind == "module":
        raise ModuleNotFoundError("No module named 'nonsense'", name="nonsense")
    raise ZeroDivisionError(kind)
''',
    "data/__init__.py": '"""Work on data sets.\n\nAt length."""\nraise RuntimeError("imported too early")',
    "tools/__init__.py": '"""Small tools."""',
    "tools/count.py": 'def count(first: int = 3) -> None:\n    """Count."""\n    print(first)',
}


@pytest.fixture(scope="module")
def sample_package(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("with a space")
    for name, source in COMMANDS.items():
        path = folder / "sample_commands" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    sys.path.insert(0, str(folder))
    yield "sample_commands"
    sys.path.remove(str(folder))
    for module in [name for name in sys.modules if name.startswith("sample_commands")]:
        del sys.modules[module]


@pytest.fixture
def call(sample_package, capsys):
    def call_with(*arguments: str) -> tuple[int, str, str]:
        group = CommandFolder(package=sample_package, name="detrofit", rich_markup_mode=None)
        code = run(group, list(arguments))
        return code, *capsys.readouterr()

    return call_with


def test_commands_are_the_files_that_define_a_function_of_their_name(sample_package):
    summaries = {outline.name: outline.summary for outline in command_outlines(sample_package)}
    assert summaries == {
        "broken": "Go wrong in one of many ways.",
        "data": "Work on data sets.",
        "greet": "Greet somebody.",
        "import": "Bring something in.",
        "lint-code": "Find faults.",
        "measure": "Measure a thing.",
        "tools": "Small tools.",
    }


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_lists_every_command_without_importing_any(call, arguments):
    code, output, _ = call(*arguments)
    assert code == 0
    for line in ("measure    Measure a thing.", "data       Work on data sets.", "import     Bring something in."):
        assert line in output


def test_a_command_runs_with_its_options(call):
    assert call("greet", "world", "--times", "2") == (0, "hello hello world\n", "")
    assert call("import") == (0, "imported\n", "")


def test_help_of_a_command_keeps_words_in_brackets(call):
    code, output, _ = call("greet", "--help")
    assert code == 0
    assert "detrofit greet" in output
    assert "How often [often]." in output


def test_a_group_runs_and_lists_its_own_commands(call):
    assert call("tools", "count", "--first", "7") == (0, "7\n", "")
    code, output, _ = call("tools")
    assert code == 0
    assert "Small tools." in output
    assert "count" in output


def test_what_a_command_returns_is_the_exit_code(call):
    assert call("lint-code")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["broken", "user"], "error: no data at 'here'\n"),
        (
            ["broken", "memory"],
            "error: there is not enough memory; try a smaller --batch or --imgsz, or another --device\n",
        ),
        (
            ["broken", "worker"],
            "error: a process that loads pictures was lost (DataLoader worker (pid 7) is killed by signal: Killed): "
            "memory, or a container's shared memory (docker run --shm-size=8g), does not suffice; give fewer "
            "--workers, or 0\n",
        ),
        (["broken", "file"], "error: No such file or directory: /no/such/file\n"),
        (
            ["broken", "extra"],
            "error: this needs 'torch', which is not installed: pip install \"detrofit[train]\"\n",
        ),
    ],
)
def test_a_mistake_of_the_user_is_one_line_and_code_2(call, arguments, line):
    assert call(*arguments) == (2, "", line)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gret"], ["gret", "(see 'detrofit --help')"]),
        (["greet"], ["Missing argument", "NAME", "(see 'detrofit greet --help')"]),
        (["greet", "you", "--time", "2"], ["--time", "--times"]),
        (["greet", "you", "--times", "often"], ["--times", "integer"]),
        (["tools", "cont"], ["cont", "(see 'detrofit tools --help')"]),
    ],
)
def test_a_wrong_call_is_one_line_and_code_2(call, arguments, words):
    code, output, error = call(*arguments)
    assert (code, output, error.count("\n")) == (2, "", 1)
    assert error.startswith("error: ")
    for word in words:
        assert word.lower() in error.lower()


def test_an_interruption_is_one_word_and_code_130(call):
    code, _, error = call("broken", "interrupt")
    assert (code, error.strip()) == (130, "interrupted")


@pytest.mark.parametrize(
    ("kind", "exception"),
    [("fault", ZeroDivisionError), ("module", ModuleNotFoundError), ("runtime", RuntimeError)],
)
def test_a_fault_of_the_program_is_not_hidden(call, kind, exception):
    with pytest.raises(exception):
        call("broken", kind)


def test_version(capsys):
    from detrofit.version import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"detrofit {__version__}\n"


def test_every_command_of_detrofit_says_what_it_does_in_one_line():
    outlines = command_outlines("detrofit.cli")
    for group in [outline for outline in outlines if outline.is_group]:
        outlines += command_outlines(group.module)
    for outline in outlines:
        assert 0 < len(outline.summary) <= 100, f"{outline.module} needs a docstring with a short first line"


def test_a_closed_pipe_is_quiet():
    command = subprocess.Popen(
        [sys.executable, "-m", "detrofit", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert command.stdout is not None and command.stderr is not None
    command.stdout.close()
    assert command.stderr.read() == b""
    assert command.wait() == 1


def test_a_terminal_without_unicode_shows_something(tmp_path: Path):
    (tmp_path / "plain.py").write_text("import detrofit.cli.app as app\napp.main(['--version'])\nprint('\\u2713')\n")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, tmp_path / "plain.py"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("?\n")
