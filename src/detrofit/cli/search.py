"""The `search` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from detrofit.cli.graft import (
    Budgets,
    Candidates,
    Cpus,
    Gpus,
    Jobs,
    Ray,
    RuntimeOption,
    Slots,
    executor_for,
    graft_settings,
    print_graft,
)
from detrofit.cli.options import Data, Plugins, Settings, Swaps, parse_image_size, parse_swaps


def search(
    model: Annotated[str, typer.Argument(help="A model of the zoo, e.g. rtdetr-n.")],
    data: Data,
    slots: Slots = [],  # noqa: B006 - typer needs a list
    candidates: Candidates = [],  # noqa: B006
    budget: Budgets = [],  # noqa: B006
    runtime: RuntimeOption = "openvino",
    swap: Swaps = [],  # noqa: B006
    set_: Settings = [],  # noqa: B006
    epochs: Annotated[int | None, typer.Option(help="Of the teacher.")] = None,
    finish: Annotated[int, typer.Option(min=0, help="Epochs of fine-tuning; 0: a fifth of the teacher's.")] = 0,
    seeds: Annotated[int, typer.Option(min=0, help="Runs of each model in the final study; 0: none.")] = 3,
    imgsz: Annotated[str | None, typer.Option(help="Input size: one number, or HEIGHT,WIDTH.")] = None,
    weights: Annotated[str | None, typer.Option(help="What the teacher starts from.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of local training.")] = 300,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps or auto.")] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Processes that load pictures.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of every random stream.")] = 0,
    jobs: Jobs = 1,
    ray: Ray = None,
    cpus: Cpus = 1,
    gpus: Gpus = None,
    out: Annotated[Path, typer.Option(help="Folder; a search there goes on.")] = Path("search"),
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Train a model, graft it lighter within a budget, fine-tune, compare both over seeds."""
    from detrofit.config.load import load_experiment, merge_dotted, parse_assignments
    from detrofit.grafting.search import search as run

    options: dict[str, Any] = {"model.name": model, "data": data, "seed": seed, "device": device, "workers": workers}
    options |= {"imgsz": imgsz and parse_image_size(imgsz), "weights": weights, "train.epochs": epochs}
    options |= {"plugins": plugin or None}
    values = merge_dotted({}, {key: value for key, value in options.items() if value is not None})
    values = merge_dotted(values, {f"retrofit.{slot}": choice for slot, choice in parse_swaps(swap).items()})
    experiment = load_experiment(merge_dotted(values, parse_assignments(set_, "--set")))
    settings = graft_settings(
        slots, candidates, budget, runtime=runtime, steps=steps, finish_epochs=finish, seed=seed,
        device=experiment.device, workers=experiment.workers, plugins=tuple(plugin),
    )  # fmt: skip
    result = run(experiment, out, settings, seeds=seeds, executor=executor_for(jobs, ray, cpus, gpus))
    print_graft(result.graft)
    if result.study is not None:
        print(f"study on the test split: {result.study / 'report.html'}")
