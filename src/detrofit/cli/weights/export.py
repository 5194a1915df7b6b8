"""The `weights export` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detrofit.cli.options import Plugins, model_file


def export(
    file: Annotated[str, typer.Argument(help="A model file or run folder; also another program's checkpoint.")],
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    plugin: Plugins = [],  # noqa: B006 - typer needs a list
) -> None:
    """Write a model as a Hugging Face folder, which transformers' from_pretrained reads."""
    from detrofit.weights.huggingface_folder import write_huggingface
    from detrofit.weights.model_file import load_model, read_info

    with model_file(file, None) as (path, _):
        write_huggingface(out, load_model(path, plugins=plugin), read_info(path))
    print(f"folder {out}; transformers gives equal outputs for square inputs")
