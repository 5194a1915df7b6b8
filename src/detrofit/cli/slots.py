"""The `slots` command."""

from __future__ import annotations

from typing import Annotated

import typer

from detrofit.cli.options import ImageSize, Plugins, Settings, Swaps, parse_image_size, parse_swaps


def slots(
    model: Annotated[str, typer.Argument(help="A model of the zoo.")],
    swap: Swaps = [],  # noqa: B006 - typer needs a list
    set_: Settings = [],  # noqa: B006
    imgsz: ImageSize = "640",
    classes: Annotated[int, typer.Option(help="Number of classes.")] = 80,
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Show every slot of a model: shapes, parameters, share of FLOPs, and the parts that fit."""
    import torch
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from detrofit.cli.console import table_console
    from detrofit.config.load import parse_assignments
    from detrofit.config.models import frame_and_choices
    from detrofit.errors import DetrofitError
    from detrofit.model.build import assemble
    from detrofit.model.costs import count_flops, count_parameters, slot_costs
    from detrofit.model.shapes import check_shapes
    from detrofit.parts.registry import load_plugins, parts_for

    load_plugins(plugin)
    settings = parse_assignments(set_, "--set")
    foreign = [key for key in settings if not key.startswith("model.")]
    if foreign:
        raise DetrofitError(f"--set {foreign[0]} does not change the model; here only model.KEY counts")
    frame = {key.removeprefix("model."): value for key, value in settings.items()}
    size = parse_image_size(imgsz)
    with torch.device("meta"):
        built, filled = assemble(*frame_and_choices(model, parse_swaps(swap), frame), num_classes=classes)
    check_shapes(built, filled, size)
    total = count_flops(built, size)
    table = Table("slot", "part", "input to output", "parameters", "FLOPs", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in table.columns[:3]:
        column.no_wrap = True
    kinds = {}
    for cost in sorted(slot_costs(built, filled, size), key=lambda cost: (cost.filled.address, cost.filled.index or 0)):
        place = cost.filled
        kinds[place.slot.pattern.format(stage="N")] = place.slot
        table.add_row(
            place.address if place.index is None else f"{place.address}{place.index}",
            place.part.name,
            f"{_shape(cost.input_shape)} {_shape(cost.output_shape)}",
            f"{cost.parameters:,}",
            f"{cost.flops / total:.1%}",
        )
    console = table_console()
    console.print(table)
    for pattern, slot in sorted(kinds.items()):
        console.print(f"[bold]{pattern}[/bold]: {', '.join(part.name for part in parts_for(slot))}", highlight=False)
    print(f"{total / 1e9:.2f} GFLOPs at {size[0]}x{size[1]}, {count_parameters(built):,} parameters")


def _shape(shape: object) -> str:
    """The channels, height and width of a map; of several maps, those of the first."""
    if not isinstance(shape, tuple) or not shape:
        return "-"
    return _shape(shape[0]) + " ..." if isinstance(shape[0], tuple) else "x".join(str(side) for side in shape[1:])
