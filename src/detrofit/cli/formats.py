"""The `formats` command."""

from __future__ import annotations

from typing import Annotated

import typer


def formats(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the formats that models ship in: what is proven, by what, and recipes for what is not."""
    import json
    from dataclasses import asdict

    from rich.table import Table

    from detrofit.cli.console import table_console
    from detrofit.deployment.formats import FORMATS

    if as_json:
        print(json.dumps([asdict(each) for each in FORMATS], indent=1))
        return
    table = Table("format", "suffix", "precision", "tier", "evidence, or recipe")
    for each in FORMATS:
        table.add_row(each.name, each.suffix, each.precision, each.tier, each.evidence)
    table_console().print(table)
