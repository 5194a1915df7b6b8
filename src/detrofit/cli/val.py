"""The `val` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detrofit.cli.options import Data, Device, Plugins, Tile, Weights, model_file, parse_image_size


def val(
    data: Data,
    file: Annotated[str | None, typer.Argument(help="A model file, or a run folder (its best.safetensors).")] = None,
    weights: Weights = None,
    split: Annotated[str, typer.Option(help="The split to score.")] = "test",
    imgsz: Annotated[str | None, typer.Option(help="Input size; default: the one it was trained at.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 8,
    workers: Annotated[int | None, typer.Option(min=0, help="Processes that load pictures.")] = None,
    tile: Tile = None,
    device: Device = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Folder for tables and plots; default: val-SPLIT beside the file.")
    ] = None,
    plugin: Plugins = [],  # noqa: B006 - typer needs a list
) -> None:
    """Score a trained model on a split: COCO metrics, operating point, plots, predictions."""
    from functools import partial

    from detrofit.cli.console import table_console
    from detrofit.evaluation.tables import errors_line, print_by_size
    from detrofit.tiling import parse_tiling
    from detrofit.training.score import score_file

    tiling = parse_tiling(tile) if tile else None
    size = parse_image_size(imgsz) if imgsz else None
    with model_file(file, weights) as (path, in_place):
        out = out if out or in_place else Path(f"val-{split}")
        score = partial(score_file, path, data, split, imgsz=size, batch=batch, workers=workers, device=device)
        folder, evaluation = score(out=out, plugins=plugin)
        if evaluation is not None:
            evaluation.render(table_console())
            print(errors_line(folder))
            print(f"tables, plots and predictions in {folder}, the worst errors in {folder / 'errors.html'}")
        if tiling is not None:
            tiled_folder, tiled = score(out=out and out.with_name(f"{out.name}-tiled"), plugins=plugin, tiling=tiling)
            if evaluation is not None and tiled is not None:
                print_by_size({"whole": evaluation, f"in tiles of {tiling.size}": tiled}, table_console())
                print(f"the same for pictures in tiles in {tiled_folder}")
