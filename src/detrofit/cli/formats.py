"""The `formats` command."""

from __future__ import annotations


def formats() -> None:
    """List the formats that models ship in, what is proven of each, and what is not."""
    from rich.table import Table

    from detrofit.cli.console import table_console
    from detrofit.deployment.formats import FORMATS

    table = Table("format", "suffix", "proven", "what is known")
    for each in FORMATS:
        table.add_row(each.name, each.suffix, "yes" if each.proven else "not run by us", each.evidence)
    table_console().print(table)
