"""The `weights inspect` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def inspect(
    file: Annotated[Path, typer.Argument(help="A model file, a checkpoint of another program, or its folder.")],
) -> None:
    """Tell whose weights a file holds, for which model and classes; nothing in it is executed."""
    from rich.table import Table

    from detrofit.cli.console import table_console
    from detrofit.weights.inspect_file import inspect_weights

    table = Table("what", "value")
    for what, value in inspect_weights(file).items():
        table.add_row(what, value)
    table_console().print(table)
