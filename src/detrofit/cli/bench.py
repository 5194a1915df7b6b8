"""The `bench` command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detrofit.cli.options import Device, Plugins, parse_image_size

if TYPE_CHECKING:
    from detrofit.deployment.latency import Benchmark, FileLatency

FRESH_PROCESSES = 3  # whose median cold start is told


def bench(
    models: Annotated[
        list[str],
        typer.Argument(help="Model files (.onnx, .xml, .safetensors), run folders, zoo models; or NAME=FILE."),
    ],
    runtime: Annotated[
        list[str],
        typer.Option(help="torch, onnxruntime or openvino, with :half for half precision; repeatable."),
    ] = [],  # noqa: B006 - typer needs a list
    imgsz: Annotated[
        str | None, typer.Option(help="Input size: one number, or HEIGHT,WIDTH; default: each model's own.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of each runtime; default: as many as it likes.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 1,
    picture: Annotated[Path | None, typer.Option(help="The picture to run; default: a drawn one.")] = None,
    rounds: Annotated[int, typer.Option(help="How often each is timed.")] = 50,
    device: Device = "auto",
    out: Annotated[
        list[Path], typer.Option(help="Write the numbers here too: .json, .csv, .png or .svg; repeatable.")
    ] = [],  # noqa: B006
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Time models side by side, from a picture file to boxes."""
    import tempfile

    from detrofit.deployment.bench_files import write_bench, writer_of
    from detrofit.deployment.latency import measure_subjects
    from detrofit.deployment.subjects import find_subjects

    for target in out:
        writer_of(target)
    content = picture.read_bytes() if picture else _drawn_picture()
    size = parse_image_size(imgsz) if imgsz else None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        subjects = find_subjects(models, runtime, size, Path(folder), plugin)
        options: dict[str, Any] = {"device": None if device == "auto" else device, "threads": threads, "batch": batch}
        result = measure_subjects(subjects, content, rounds, fresh_processes=FRESH_PROCESSES, **options)
    _print(result)
    for target in out:
        write_bench(result, target)


def _drawn_picture() -> bytes:
    """A scene of 640 x 480 pixels as a JPEG file."""
    import io

    import numpy as np
    from PIL import Image

    from detrofit.data.demo_scenes import draw_scene

    file = io.BytesIO()
    Image.fromarray(draw_scene(np.random.default_rng(0), 480, 640).picture).save(file, "JPEG", quality=90)
    return file.getvalue()


def _print(result: Benchmark) -> None:
    from rich.table import Table

    from detrofit.cli.console import table_console
    from detrofit.deployment.machine import is_busy

    times = Table(
        "model", "runtime", "pre", "model", "post", "total ms (95 %)", "p90", "per s", "times the first (95 %)"
    )
    sizes = Table("model", "runtime", "input", "parameters", "GFLOPs", "file MB", "cold start ms", "peak memory MB")
    for each in result.files:
        label = each.variant, f"{each.runtime} {each.precision}{'' if each.device == 'cpu' else f', {each.device}'}"
        times.add_row(*label, *_time_cells(each))
        sizes.add_row(*label, *_size_cells(each))
    console = table_console()
    console.print(times)
    console.print(sizes)
    machine = result.machine
    threads = f", {result.threads} threads" if result.threads else ""
    print(
        f"{result.rounds} rounds in turns on {machine['processor']}, {machine['cores']} cores{threads}, "
        f"batch {result.batch}; milliseconds, ratios to the first"
    )
    if is_busy(machine):
        print(f"the machine was busy (load {machine['load']}): believe the ratios, not the milliseconds")


def _time_cells(each: FileLatency) -> list[str]:
    ratio = each.ratio
    return [
        *(f"{each.steps[step].median:.1f}" for step in ("pre", "model", "post")),
        f"{each.median:.1f} ({each.low:.1f}-{each.high:.1f})",
        f"{each.p90:.1f}",
        f"{each.pictures_per_second:.1f}",
        f"{ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f})",
    ]


def _size_cells(each: FileLatency) -> list[str]:
    return [
        f"{each.input_size[1]} x {each.input_size[0]}",
        f"{each.parameters / 1e6:.2f} M" if each.parameters else "-",
        f"{each.flops / 1e9:.1f}" if each.flops else "-",
        f"{each.megabytes:.1f}",
        f"{each.cold_start_ms:.0f}" if each.cold_start_ms else "-",
        f"{each.peak_memory_mb:.0f}" if each.peak_memory_mb else "-",
    ]
