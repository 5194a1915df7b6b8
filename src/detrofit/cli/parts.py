"""The `parts` command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from detrofit.cli.options import Plugins

if TYPE_CHECKING:
    from rich.console import Console

    from detrofit.parts.registry import Part


def parts(
    name: Annotated[str | None, typer.Argument(help="A part to describe; without it all are listed.")] = None,
    plugin: Plugins = [],  # noqa: B006 - typer needs a list
) -> None:
    """List the parts, or describe one: what it is, paper, options with defaults and ranges, where it fits."""
    from detrofit.cli.console import table_console
    from detrofit.parts.registry import get_part, load_plugins

    load_plugins(plugin)
    console = table_console()
    if name is None:
        _list(console)
    else:
        _describe(console, get_part(name))


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
