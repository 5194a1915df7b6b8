"""The `val` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detrofit.cli.options import Data, Device, Plugins, parse_image_size


def val(
    file: Annotated[Path, typer.Argument(help="A model file, or a run folder (its best.safetensors).")],
    data: Data,
    split: Annotated[str, typer.Option(help="The split to score.")] = "test",
    imgsz: Annotated[str | None, typer.Option(help="Input size; default: the one it was trained at.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 8,
    workers: Annotated[int | None, typer.Option(min=0, help="Processes that load pictures.")] = None,
    device: Device = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Folder for tables and plots; default: val-SPLIT beside the file.")
    ] = None,
    plugin: Plugins = [],  # noqa: B006 - typer needs a list
) -> None:
    """Score a trained model on a split: COCO metrics, operating point, plots, predictions."""
    from detrofit.cli.console import table_console
    from detrofit.training.score import score_file

    size = parse_image_size(imgsz) if imgsz else None
    folder, evaluation = score_file(
        file, data, split, imgsz=size, batch=batch, workers=workers, device=device, out=out, plugins=plugin
    )
    if evaluation is not None:
        evaluation.render(table_console())
        print(f"tables, plots and predictions in {folder}")
