"""The `explain` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from detrofit.cli.options import Device, Plugins


def explain(
    file: Annotated[Path, typer.Argument(help="A model file, or a run folder (its best.safetensors).")],
    pictures: Annotated[list[str], typer.Argument(help="Pictures, folders or glob patterns.")],
    against: Annotated[list[Path], typer.Option(help="Another model to set beside it; repeatable.")] = [],  # noqa: B006
    data: Annotated[Path | None, typer.Option(help="The data set of the pictures, for their ground truth.")] = None,
    most: Annotated[int, typer.Option(min=1, help="Detections of a picture to explain.")] = 3,
    threshold: Annotated[float | None, typer.Option(help="Their lowest score; default: the file's own.")] = None,
    masks: Annotated[int, typer.Option(min=0, help="Of D-RISE, a picture and model; 0 leaves it out.")] = 500,
    stride: Annotated[int | None, typer.Option(help="Level whose gradients are shown; default: the finest.")] = None,
    slot: Annotated[
        list[str],
        typer.Option(help="Address or module whose map and receptive field are shown; repeatable; default: stages."),
    ] = [],  # noqa: B006
    width: Annotated[float, typer.Option(min=1, max=20, help="Of the figures, in inches: 3.25 a column.")] = 6.75,
    out: Annotated[Path, typer.Option(help="Folder for the figures.")] = Path("explanations"),
    device: Device = "auto",
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Show why models find what they find: saliency, sampling points, feature maps, receptive fields."""
    from rich.console import Console
    from rich.progress import Progress

    from detrofit.cli.console import table_console
    from detrofit.explanation.explain import ExplainSettings, amount, explain
    from detrofit.explanation.explained import open_models
    from detrofit.explanation.truth import named_pictures, truth_of

    models = open_models([file, *against], device, plugin)
    shown = named_pictures(pictures)
    truth = truth_of(shown, data) if data else {}
    settings = ExplainSettings(most, threshold, masks, stride, tuple(slot), width)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("explaining", total=amount(models, len(shown), settings))
        result = explain(
            models,
            {name: each.pixels for name, each in shown.items()},
            out,
            settings,
            truth=truth,
            advance=lambda done: progress.advance(task, done),
        )
    if result.receptive_fields:
        table_console().print(_table(result.receptive_fields))
    print(f"{len(result.files)} figures and numbers in {out}")


def _table(fields: Any) -> Any:
    from rich.table import Table

    table = Table("slot", *(f"{name}: half, 95 % within" for name in fields))
    for address in dict.fromkeys(address for of_model in fields.values() for address in of_model):
        sides = [
            f"{of_model[address].side:.0f}, {of_model[address].side95:.0f} px" if address in of_model else "-"
            for of_model in fields.values()
        ]
        table.add_row(address, *sides)
    table.title = "effective receptive field: side of the square around the middle"
    return table
