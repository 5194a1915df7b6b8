"""The `graft` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from detrofit.cli.options import Data, Device, Plugins

Slots = Annotated[
    list[str], typer.Option("--slots", help="Addresses to graft at, e.g. 'backbone.stage[3,4].block'; repeatable.")
]
Candidates = Annotated[
    list[str], typer.Option("--candidates", help="Parts to try, as --swap writes them; default: the catalogue's.")
]
Budgets = Annotated[
    list[str], typer.Option("--budget", help="0.7x, 20ms, 0.6xparams or 3Mparams; repeatable, all count.")
]
Jobs = Annotated[int, typer.Option(min=1, help="Slots trained at once on this machine; its threads are divided.")]
Ray = Annotated[str | None, typer.Option(help="Train slots on the Ray cluster at this address; `auto` finds it.")]
Cpus = Annotated[int, typer.Option(min=1, help="CPUs of a job on the cluster, and its threads.")]
Gpus = Annotated[float | None, typer.Option(min=0, help="GPUs of a job there; default: 1 if there are any.")]
RuntimeOption = Annotated[
    Literal["openvino", "onnxruntime", "torch"], typer.Option(help="What the latency is measured with.")
]


def graft(
    file: Annotated[Path, typer.Argument(help="A trained model file, or a run folder (its best.safetensors).")],
    data: Data,
    slots: Slots = [],  # noqa: B006 - typer needs a list
    candidates: Candidates = [],  # noqa: B006
    budget: Budgets = [],  # noqa: B006
    runtime: RuntimeOption = "openvino",
    bench: Annotated[
        Path | None, typer.Option(help="Latencies of a device: its `detrofit bench --out` of the folder's exports.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; a graft there goes on. Default: beside the file.")] = None,
    search_split: Annotated[str, typer.Option(help="Split that candidates are scored on; never test.")] = "val",
    steps: Annotated[int, typer.Option(min=1, help="Steps of local training.")] = 300,
    lr: Annotated[float, typer.Option(min=1e-6, help="Peak learning rate of local training.")] = 2e-3,
    batch: Annotated[int, typer.Option(min=2, help="Pictures of a step.")] = 16,
    cache: Annotated[float, typer.Option(min=0, help="Gigabytes for recorded features; 0: stream them.")] = 2.0,
    inside: Annotated[float, typer.Option(min=1, help="How much more places inside boxes count.")] = 1.0,
    assemblies: Annotated[int, typer.Option(min=1, help="Choices put together and measured.")] = 4,
    rounds: Annotated[int, typer.Option(min=6, help="How often each model is timed.")] = 100,
    finish: Annotated[int, typer.Option(min=0, help="Epochs of fine-tuning of the best and of the original.")] = 0,
    knobs: Annotated[bool, typer.Option(help="Measure input size, queries and decoder layers first.")] = True,
    seed: Annotated[int, typer.Option(help="Seed of every random stream.")] = 0,
    device: Device = "auto",
    workers: Annotated[int | None, typer.Option(min=0, help="Processes that load pictures.")] = None,
    jobs: Jobs = 1,
    ray: Ray = None,
    cpus: Cpus = 1,
    gpus: Gpus = None,
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Make a trained model lighter: graft parts that imitate its own, chosen by loss and latency."""
    from detrofit.grafting.graft import graft as run
    from detrofit.training.run_folder import BEST

    settings = graft_settings(
        slots, candidates, budget, runtime=runtime, bench=bench, search_split=search_split, steps=steps, lr=lr,
        batch=batch, cache=cache, inside=inside, assemblies=assemblies, rounds=rounds, finish_epochs=finish,
        knobs=knobs, seed=seed, device=device, workers=workers, plugins=tuple(plugin),
    )  # fmt: skip
    file = file / BEST if file.is_dir() else file
    folder = out or file.with_name(f"{file.stem}-graft")
    print_graft(run(file, data, folder, settings, executor=executor_for(jobs, ray, cpus, gpus)))


def graft_settings(slots: list[str], candidates: list[str], budgets: list[str], **options: Any) -> Any:
    """Settings from what was typed; DetrofitError for what cannot be read."""
    import yaml

    from detrofit.errors import DetrofitError
    from detrofit.grafting.budget import parse_budget
    from detrofit.grafting.workshop import GraftSettings

    try:
        parts = tuple(yaml.safe_load(text) for text in candidates)
    except (ValueError, yaml.YAMLError) as error:
        raise DetrofitError(f"--candidates: no readable YAML value: {' '.join(str(error).split())}") from None
    return GraftSettings(tuple(slots), parts, tuple(map(parse_budget, budgets)), **options)


def executor_for(jobs: int, ray: str | None, cpus: int, gpus: float | None) -> Any:
    """What opens the place where jobs run; None for this process."""
    from detrofit.comparison.executors import LocalProcesses
    from detrofit.comparison.ray_cluster import RayCluster

    if ray:
        return lambda worker: RayCluster(ray, cpus, gpus, worker)
    return (lambda worker: LocalProcesses(jobs, worker)) if jobs > 1 else None


def print_graft(result: Any) -> None:
    """A table of what was assembled, the verdict, and where everything is."""
    from rich.table import Table

    from detrofit.cli.console import table_console
    from detrofit.grafting.results import PAGE

    results = result.results
    table = Table("model", "latency (95 %)", "parameters", "AP, search", "loss", "grafts")
    teacher = results["teacher"]
    for name, entry in [("the original", teacher), *((each["name"], each) for each in results["assembled"])]:
        cost, score = entry["cost"], entry["score"]
        table.add_row(
            name,
            f"{cost['latency']:.2f} ms, {cost['ratio']:.2f} ({cost['ratio_low']:.2f}-{cost['ratio_high']:.2f})",
            f"{cost['parameters'] / 1e6:.2f} M",
            *_accuracy(score),
            str(len(entry.get("keys", []))),
        )
    table_console().print(table)
    for note in results["notes"]:
        print(f"note: {note}")
    print(results["verdict"])
    print(f"model: {result.best}")
    print(f"report: {result.folder / PAGE}")


def _accuracy(score: Any) -> tuple[str, str]:
    if score["ap"] is None:
        return "-", "no numbers come out"
    return f"{100 * score['ap']:.1f}", f"{score['loss']:+.3f} ± {score['loss_error']:.3f}"
