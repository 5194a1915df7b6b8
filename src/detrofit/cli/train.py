"""The `train` command."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from detrofit.cli.options import Plugins, Settings, Swaps, parse_image_size, parse_swaps


def train(
    model: Annotated[str | None, typer.Argument(help="A model of the zoo, e.g. rtdetr-n.")] = None,
    data: Annotated[Path | None, typer.Option(help="data.yaml, COCO JSON or folder, or Pascal VOC folder.")] = None,
    swap: Swaps = [],  # noqa: B006 - typer needs a list
    set_: Settings = [],  # noqa: B006
    config: Annotated[Path | None, typer.Option(help="A YAML file with the same keys; options go over it.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data.")] = None,
    batch: Annotated[int | None, typer.Option(help="Pictures of a step.")] = None,
    imgsz: Annotated[str | None, typer.Option(help="Input size: one number, or HEIGHT,WIDTH.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="auto, imagenet, none; a model file or another program's, hf:ORGANISATION/NAME, a URL."),
    ] = None,
    freeze: Annotated[
        str | None, typer.Option(help="Addresses not to train, e.g. backbone.stem,backbone.stage1.")
    ] = None,
    require: Annotated[
        list[str], typer.Option(help="Fail unless all under this address comes from the weights; repeatable.")
    ] = [],  # noqa: B006
    teacher: Annotated[
        Path | None, typer.Option(help="A trained model file or run folder to learn from beside the targets.")
    ] = None,
    warm_start: Annotated[
        str | None, typer.Option(help="distill: fresh parts first imitate what they replace in the weights' model.")
    ] = None,
    save_every: Annotated[int | None, typer.Option(help="Steps between saved states for --resume.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps or auto.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that load pictures.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random stream.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run folder.")] = None,
    plugin: Plugins = [],  # noqa: B006
    resume: Annotated[Path | None, typer.Option(help="Go on with this run folder; takes no other option.")] = None,
) -> None:
    """Train a model, stock or with swapped parts, on your own data."""
    from detrofit.errors import DetrofitError
    from detrofit.training import loop

    options: dict[str, Any] = {"data": data, "imgsz": imgsz and parse_image_size(imgsz), "weights": weights}
    options |= {"device": device, "workers": workers, "seed": seed, "name": name, "plugin": plugin or None}
    options |= {"epochs": epochs, "batch": batch, "lr": lr, "save_every": save_every, "require": require or None}
    options |= {"teacher": teacher, "warm_start": warm_start}
    # Commas inside brackets are an address's own: backbone.stage[1,2].block
    options["freeze"] = freeze and [each.strip() for each in re.split(r",(?![^\[]*\])", freeze) if each.strip()]
    options = {key: value for key, value in options.items() if value is not None}
    if resume is None:
        result = loop.train(_experiment(model, config, swap, options, set_))
    elif model or config or swap or set_ or options:
        raise DetrofitError(f"--resume takes no other option: {resume} goes on with the settings it began with")
    else:
        result = loop.resume(resume)
    print(f"best validation AP {result.best:.4f}; model files in {result.folder}")


def _experiment(
    model: str | None, config: Path | None, swaps: list[str], options: dict[str, Any], settings: list[str]
) -> Any:
    """The configuration file, the options over it, and `--set` over both."""
    from detrofit.config.load import load_experiment, merge_dotted, parse_assignments, read_settings, setting_names

    values = read_settings(config) if config else {}
    if model is not None:
        values = merge_dotted(values, {"model.name": model})
    values = merge_dotted(values, setting_names(options))
    values = merge_dotted(values, {f"retrofit.{slot}": choice for slot, choice in parse_swaps(swaps).items()})
    return load_experiment(merge_dotted(values, parse_assignments(settings, "--set")))
