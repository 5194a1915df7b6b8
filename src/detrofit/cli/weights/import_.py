"""The `weights import` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_(
    file: Annotated[
        str, typer.Argument(help="A checkpoint of another program, a Hugging Face folder, hf:ORGANISATION/NAME, a URL.")
    ],
    out: Annotated[Path, typer.Option(help="The model file to write.")],
    set_: Annotated[
        list[str], typer.Option("--set", help="What the file does not tell of the frame, e.g. sampling=discrete.")
    ] = [],  # noqa: B006 - typer needs a list
) -> None:
    """Make a model file from another program's RT-DETR checkpoint, or fetch one; nothing is executed."""
    from detrofit.config.load import parse_assignments
    from detrofit.weights.import_file import import_weights

    found = import_weights(file, out, parse_assignments(set_, "--set"))
    source = found.trained.get("imported_from", "Detrofit")
    print(f"{source}, here {found.name}, {len(found.class_names)} classes; licence: {found.licence}")
    print(f"model file {out}")
