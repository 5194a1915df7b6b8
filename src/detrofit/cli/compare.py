"""The `compare` command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from detrofit.cli.options import Plugins, Settings, Swaps, parse_image_size, parse_swaps


def compare(
    study: Annotated[str, typer.Argument(help="A study's YAML, or a model of the zoo as the base.")],
    data: Annotated[Path | None, typer.Option(help="data.yaml, COCO JSON or folder, or Pascal VOC folder.")] = None,
    variant: Annotated[list[str], typer.Option(help="'NAME: {SLOT: PART, ...}' as in YAML; repeatable.")] = [],  # noqa: B006
    seeds: Annotated[int | None, typer.Option(help="Runs of each variant; 6 for one variant, 8 for four.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data.")] = None,
    batch: Annotated[int | None, typer.Option(help="Pictures of a step.")] = None,
    imgsz: Annotated[str | None, typer.Option(help="Input size: one number, or HEIGHT,WIDTH.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="What every run starts from, as for `train`; default: none, for fairness.")
    ] = None,
    swap: Swaps = [],  # noqa: B006 - typer needs a list
    set_: Settings = [],  # noqa: B006
    controls: Annotated[bool, typer.Option("--controls", help="Also run the controls of the base.")] = False,
    margin: Annotated[float | None, typer.Option(help="AP points (of 100) of no interest; default 0.5.")] = None,
    traded: Annotated[
        list[Path], typer.Option(help="A trade.json with a choice: the trained base there is a control; repeatable.")
    ] = [],  # noqa: B006
    external: Annotated[list[str], typer.Option(help="NAME=FILE,FILE: COCO predictions, one a seed.")] = [],  # noqa: B006
    latency: Annotated[
        list[Path], typer.Option(help="A file of `detrofit bench` made on another device; repeatable.")
    ] = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="Folder of the study; a study there goes on.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at once on this machine; threads are divided.")] = 1,
    ray: Annotated[str | None, typer.Option(help="Run on the Ray cluster at this address; `auto` finds it.")] = None,
    cpus: Annotated[int, typer.Option(min=1, help="CPUs of a run on the cluster, and its threads.")] = 1,
    gpus: Annotated[float | None, typer.Option(min=0, help="GPUs of a run there; default: 1 if there are any.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps or auto.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that load pictures, for each run.")] = None,
    plugin: Plugins = [],  # noqa: B006
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs with estimated times, and stop.")] = False,
) -> None:
    """Compare variants of a model fairly, over seeds, with a verdict for each."""
    from detrofit.comparison.compare import plan_study, run_study
    from detrofit.comparison.executors import LocalProcesses
    from detrofit.comparison.ray_cluster import RayCluster
    from detrofit.comparison.study import load_study
    from detrofit.comparison.tables import live_table, print_plan, print_verdicts

    options: dict[str, Any] = {
        "data": data,
        "imgsz": imgsz and parse_image_size(imgsz),
        "plugins": plugin or None,
        "weights": weights,
    }
    options |= {"device": device, "workers": workers, "train.epochs": epochs, "train.batch": batch}
    options |= {"seeds": seeds, "margin": margin, "controls": "all" if controls else None}
    values = _values(study, variant, swap, options, set_, external, traded)
    checked = load_study(values)
    folder = out or Path("studies", Path(study).stem)
    planned = plan_study(checked, folder)
    print_plan(planned, jobs if dry_run else 0)
    if dry_run:
        return
    executor = RayCluster(ray, cpus, gpus) if ray else LocalProcesses(jobs)
    with live_table(planned) as show:
        results = run_study(planned, executor, show, lambda line: print(line, file=sys.stderr), latency)
    print_verdicts(results)
    print(f"report: {folder / 'report.html'}")


def _values(
    study: str,
    variants: list[str],
    swaps: list[str],
    options: dict[str, Any],
    settings: list[str],
    external: list[str],
    traded: list[Path],
) -> dict[str, Any]:
    """The study's file, if there is one, and the options over it."""
    from detrofit.comparison.study import parse_external, parse_variants, read_study
    from detrofit.comparison.traded import parse_traded
    from detrofit.config.load import merge_dotted, parse_assignments

    values: dict[str, Any] = read_study(Path(study)) if study.endswith((".yaml", ".yml")) else {"model": study}
    values = merge_dotted(values, {key: value for key, value in options.items() if value is not None})
    if swaps:
        values = merge_dotted(values, {f"retrofit.{slot}": part for slot, part in parse_swaps(swaps).items()})
    if variants:
        values["variants"] = parse_variants(variants, values.get("variants"))
    if external:
        values["external"] = parse_external(external, values.get("external"))
    if traded:
        values["traded"] = parse_traded(traded, values.get("traded"))
    return merge_dotted(values, parse_assignments(settings, "--set"))
