"""The console that commands print tables on."""

from __future__ import annotations

from rich.console import Console

NARROWEST = 110  # below, tables would cut their cells; a terminal wraps the lines instead


def table_console() -> Console:
    """A console as wide as the terminal, but never too narrow for a table."""
    return Console(width=max(NARROWEST, Console().width))
