"""The `weights card` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detrofit.cli.options import Plugins


def card(
    file: Annotated[Path, typer.Argument(help="A model file, or a run folder (its best.safetensors).")],
    out: Annotated[Path | None, typer.Option(help="The file to write; default: the screen.")] = None,
    plugin: Plugins = [],  # noqa: B006 - typer needs a list
) -> None:
    """Write the model card of a model file: data, metrics, configuration, licence, how to use it."""
    from detrofit.files import write_file
    from detrofit.weights.card import model_card
    from detrofit.weights.model_file import BEST

    text = model_card(file / BEST if file.is_dir() else file, tuple(plugin))
    if out is None:
        print(text, end="")
    else:
        print(f"model card {write_file(out, text)}")
