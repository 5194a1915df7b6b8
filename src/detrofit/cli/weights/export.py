"""The `weights export` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detrofit.cli.options import Plugins


def export(
    file: Annotated[Path, typer.Argument(help="A model file.")],
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    to: Annotated[str, typer.Option(help="The form: huggingface.")] = "huggingface",
    plugin: Plugins = [],  # noqa: B006 - typer needs a list
) -> None:
    """Write a model as another program's weights: a folder that transformers' from_pretrained reads."""
    from detrofit.errors import DetrofitError, nearest
    from detrofit.weights.huggingface_folder import write_huggingface
    from detrofit.weights.model_file import load_model, read_info

    if to != "huggingface":
        raise DetrofitError(f"--to takes 'huggingface', not '{to}'{nearest(to, ['huggingface'])}")
    write_huggingface(out, load_model(file, plugins=plugin), read_info(file))
    print(f"folder {out}; transformers gives equal outputs for square inputs")
