"""The `trade` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from detrofit.cli.options import Data, Device, Plugins, parse_image_size


def trade(
    file: Annotated[Path, typer.Argument(help="A model file, or a run folder (its best.safetensors).")],
    data: Data,
    budget: Annotated[
        str | None, typer.Option(help="Write the most accurate point of at most this time a picture, e.g. 20ms.")
    ] = None,
    imgsz: Annotated[
        list[str], typer.Option(help="An input size to try: one number, or HEIGHT,WIDTH; repeatable.")
    ] = [],  # noqa: B006 - typer needs a list
    queries: Annotated[list[int], typer.Option(min=1, help="A number of queries to try; repeatable.")] = [],  # noqa: B006
    layers: Annotated[list[int], typer.Option(min=1, help="Decoder layers to try; repeatable.")] = [],  # noqa: B006
    format_: Annotated[
        Literal["torch", "onnx", "openvino"] | None,
        typer.Option("--format", help="What is timed; default: onnx, or what --bench has times of."),
    ] = None,
    bench: Annotated[
        Path | None, typer.Option(help="A bench.json of the points' files from the device that counts.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the timed files in OUT/points, to bench elsewhere.")
    ] = False,
    rounds: Annotated[int, typer.Option(min=6, help="How often each point is timed.")] = 20,
    split: Annotated[str, typer.Option(help="The split that decides; never the test split.")] = "val",
    batch: Annotated[int, typer.Option(min=1, help="Pictures at a time while scoring.")] = 8,
    workers: Annotated[int | None, typer.Option(min=0, help="Processes that load pictures.")] = None,
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="Folder of the results; default: trade beside the file.")] = None,
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Trade accuracy for speed without training: input size, queries, decoder layers."""
    from detrofit.cli.console import table_console
    from detrofit.deployment.trade.choice import parse_budget
    from detrofit.deployment.trade.output import print_trade, save_trade
    from detrofit.deployment.trade.points import Knobs
    from detrofit.deployment.trade.run import Trade, TradeSettings, trade

    knobs = Knobs(tuple(parse_image_size(text) for text in imgsz), tuple(queries), tuple(layers))
    settings = TradeSettings(knobs, format_, device, bench, rounds, keep, split, batch, workers, plugin)
    limit = parse_budget(budget) if budget else None
    folder = out or (file if file.is_dir() else file.parent) / "trade"

    def show(measured: Trade) -> None:
        save_trade(measured, folder)
        print_trade(measured, table_console())
        print(f"table and plot in {folder}")

    result = trade(file, data, folder, settings, budget=limit, keep=show)
    if result.chosen:
        chosen = result.chosen
        save_trade(result, folder)
        print(f"the best within {limit:g} ms is {chosen.point.point}, {chosen.point.milliseconds:.3g} ms a picture:")
        print(f"{chosen.file} (AP {chosen.ap:.4f}, measured once more)")
        if chosen.exported:
            again = "" if chosen.exported_ap is None else f" (AP {chosen.exported_ap:.4f})"
            print(f"and exported: {chosen.exported}{again}")
