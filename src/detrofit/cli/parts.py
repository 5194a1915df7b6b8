"""The `parts` command, and `parts check`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detrofit.cli.options import Plugins

if TYPE_CHECKING:
    from rich.console import Console

    from detrofit.parts.check import Check, CheckResult
    from detrofit.parts.registry import Part


def parts(
    name: Annotated[
        str | None, typer.Argument(help="A part to describe, or 'check'; without it all are listed.")
    ] = None,
    target: Annotated[
        str | None, typer.Argument(metavar="NAME_OR_FILE", help="After 'check': a part, or a Python file with parts.")
    ] = None,
    plugin: Plugins = [],  # noqa: B006 - typer needs a list
) -> int:
    """List the parts, describe one, or check one.

    `parts` lists all, `parts NAME` describes one: what it is, paper, options with defaults and ranges, where it fits.
    `parts check NAME_OR_FILE` tries everything that a part promises; exit code 1 if it does not keep it.
    """
    from detrofit.cli.console import table_console
    from detrofit.errors import DetrofitError
    from detrofit.parts.registry import get_part, load_plugins

    load_plugins(plugin)
    console = table_console()
    if name == "check":
        if target is None:
            raise DetrofitError("name what to check, a part or a file: detrofit parts check NAME_OR_FILE")
        return _check(console, target)
    if target is not None:
        raise DetrofitError(f"one part at a time, not also '{target}'; only 'check' takes a second word")
    if name is None:
        _list(console)
    else:
        _describe(console, get_part(name))
    return 0


def _list(console: Console) -> None:
    from rich.table import Table

    from detrofit.parts.registry import all_parts

    table = Table("part", "fits", "what it is", "paper")
    for part in all_parts():
        table.add_row(part.name, "\n".join(slot.pattern for slot in part.fits), part.summary, part.paper)
    console.print(table)


def _describe(console: Console, part: Part) -> None:
    import inspect

    from rich.table import Table

    from detrofit.parts.options import option_rows

    console.print(f"[bold]{part.name}[/bold]  {part.paper}", highlight=False)
    console.print(inspect.getdoc(part.build) or "", markup=False, highlight=False)
    console.print(f"\noriginal: {part.licence}\nfrom: {part.origin.source} {part.origin.version[:12]}", markup=False)
    console.print("fits: " + ", ".join(slot.pattern for slot in part.fits), markup=False)
    rows = option_rows(part.options)
    if rows:
        table = Table("option", "default", "allowed", "meaning")
        for row in rows:
            table.add_row(row.name, row.default, row.allowed, row.meaning)
        console.print(table)


def _check(console: Console, target: str) -> int:
    """Try the part, or every part of the file, and print what came of it; 1 if anything failed."""
    from functools import partial

    from rich.console import Console
    from rich.progress import track

    from detrofit.model.fuse import fuse
    from detrofit.parts.checks import merging, run_checks
    from detrofit.parts.registry import get_part, parts_of_file
    from detrofit.training.part_check import IN_MODEL

    found = parts_of_file(Path(target)) if target.endswith(".py") else [get_part(target)]
    extra = [merging(fuse), *IN_MODEL, *_export_check(console)]
    failed = False
    for part in found:
        shown = partial(track, description=f"checking {part.name}", console=Console(stderr=True), transient=True)
        results = run_checks(part, extra, shown)
        _print_verdict(console, part, results)
        failed = failed or any(result.failure is not None for result in results)
    return int(failed)


def _export_check(console: Console) -> list[Check]:
    """The check that parts export, where what it needs is installed."""
    try:
        from detrofit.deployment.part_check import EXPORTS
    except ModuleNotFoundError:
        console.print('export is not checked: pip install "detrofit[export]"', markup=False, highlight=False)
        return []
    return [EXPORTS]


def _print_verdict(console: Console, part: Part, results: Sequence[CheckResult]) -> None:
    """A table of checks by slots, a line for each fault, however many checks it fails, and the verdict."""
    from rich.table import Table
    from rich.text import Text

    slots = list(dict.fromkeys(result.slot for result in results))
    outcomes = {(result.check, result.slot): result.failure for result in results}
    table = Table("check", *slots, title=part.name, title_justify="left")
    for check in dict.fromkeys(result.check for result in results):
        table.add_row(check, *(_cell(outcomes, check, slot) for slot in slots))
    console.print(table)
    failures = [result for result in results if result.failure is not None]
    for fault in dict.fromkeys(result.failure for result in failures):
        first, *others = [result for result in failures if result.failure == fault]
        more = f" and {len(others)} more" if others else ""
        console.print(Text(f"{first.slot}, {first.check}{more}: {fault}"))
    verdict = f"{len(failures)} of {len(results)} checks failed" if failures else f"all {len(results)} checks passed"
    console.print(Text(f"{part.name}: {verdict}", style="bold red" if failures else "bold green"))


def _cell(outcomes: dict[tuple[str, str], str | None], check: str, slot: str) -> str:
    if (check, slot) not in outcomes:
        return ""
    return "ok" if outcomes[check, slot] is None else "[red]failed[/red]"
