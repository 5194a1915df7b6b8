"""The `weights inspect` command."""

from __future__ import annotations

from typing import Annotated

import typer


def inspect(
    file: Annotated[
        str, typer.Argument(help="A model file, a checkpoint of another program, its folder, hf:..., a URL.")
    ],
) -> None:
    """Tell whose weights a file holds, for which model and classes; nothing in it is executed."""
    from rich.markup import escape
    from rich.table import Table

    from detrofit.cli.console import table_console
    from detrofit.weights.fetch import fetch
    from detrofit.weights.inspect_file import inspect_weights

    table = Table("what", "value")
    for what, value in inspect_weights(fetch(file)).items():
        table.add_row(what, escape(value))
    table_console().print(table)
