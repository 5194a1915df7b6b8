"""The `weights import` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_(
    file: Annotated[Path, typer.Argument(help="A checkpoint of another program, or a Hugging Face folder.")],
    out: Annotated[Path, typer.Option(help="The model file to write.")],
) -> None:
    """Make a model file from an RT-DETR checkpoint of another program; nothing in it is executed."""
    from detrofit.weights.import_file import import_weights

    found = import_weights(file, out)
    print(f"{found.source}, here {found.model}, {found.num_classes} classes; licence: {found.licence}")
    print(f"model file {out}")
