"""The `info` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def info(
    file: Annotated[Path, typer.Argument(help="A model file: .safetensors, .onnx or .xml.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a model file says about itself: classes, input, thresholds, parts, versions."""
    import json

    from rich.markup import escape
    from rich.table import Table

    from detrofit.cli.console import table_console
    from detrofit.deployment.describe import describe

    facts = describe(file)
    if as_json:
        print(json.dumps(facts, indent=1, ensure_ascii=False))
        return
    table = Table(show_header=False)
    for name, value in facts.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        table.add_row(name.replace("_", " "), escape(text))
    table_console().print(table)
