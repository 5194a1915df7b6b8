"""Commands found by folder and described without being imported.

A file is a command if it defines a public function of its own name: `cli/train.py` with `def train(...)`. The first
line of that function's docstring is the line in the list of commands. A folder with an `__init__.py` is a group of
commands, described by the docstring of that file. A name that Python reserves takes an underscore at its end
(`import_.py`), and underscores inside a name are typed as hyphens.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
import typer.core
import typer.main


@dataclass(frozen=True)
class CommandOutline:
    """What the list of commands says about one command, read from its source."""

    name: str
    module: str
    summary: str
    is_group: bool


class CommandFolder(typer.core.TyperGroup):
    """The commands in the folder of a package; a command's module is imported when that command is called."""

    def __init__(self, *, package: str = "detrofit.cli", **attributes: Any) -> None:
        super().__init__(**attributes)
        self.outlines = {outline.name: outline for outline in command_outlines(package)}
        self.commands = {
            name: typer.core.TyperCommand(name=name, short_help=outline.summary)
            for name, outline in self.outlines.items()
        }

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args or ["--help"])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, listed, rest = super().resolve_command(ctx, args)
        return name, listed and import_command(self.outlines[str(listed.name)]), rest


def command_outlines(package: str) -> list[CommandOutline]:
    """The commands and groups in the folder of `package`, by name."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(f"no package named '{package}'", name=package)
    entries = [entry for folder in spec.submodule_search_locations for entry in Path(folder).iterdir()]
    outlines = (_outline(entry, package) for entry in entries)
    return sorted((outline for outline in outlines if outline), key=lambda outline: outline.name)


def import_command(outline: CommandOutline) -> Any:
    """The command itself, its module imported."""
    if outline.is_group:
        return CommandFolder(package=outline.module, name=outline.name, help=outline.summary, rich_markup_mode=None)
    module = importlib.import_module(outline.module)
    application = typer.Typer(add_completion=False, rich_markup_mode=None)
    application.command(name=outline.name)(getattr(module, outline.module.rpartition(".")[2]))
    return typer.main.get_command(application)


def _outline(entry: Path, package: str) -> CommandOutline | None:
    source = entry / "__init__.py" if entry.is_dir() else entry
    if entry.stem.startswith("_") or source.suffix != ".py" or not source.is_file():
        return None
    summary = _summary(source, None if entry.is_dir() else entry.stem)
    if summary is None:
        return None
    name = entry.stem.rstrip("_").replace("_", "-")
    return CommandOutline(name, f"{package}.{entry.stem}", summary, is_group=entry.is_dir())


def _summary(source: Path, function: str | None) -> str | None:
    """The first line of the docstring of `function`, or of the module for None; None without such a function."""
    module = ast.parse(source.read_bytes())
    if function is None:
        return _first_line(module)
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            return _first_line(node)
    return None


def _first_line(node: ast.Module | ast.FunctionDef) -> str:
    return (ast.get_docstring(node) or "").partition("\n")[0]
