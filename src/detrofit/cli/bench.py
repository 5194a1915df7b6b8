"""The `bench` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from detrofit.cli.options import Device


def bench(
    files: Annotated[list[Path], typer.Argument(help="Model files: .safetensors, .onnx or .xml.")],
    picture: Annotated[Path | None, typer.Option(help="The picture to run; default: a drawn one.")] = None,
    rounds: Annotated[int, typer.Option(help="How often each file is timed.")] = 50,
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="Write the numbers here too: .json or .csv.")] = None,
) -> None:
    """Time model files side by side, from a picture file to boxes."""
    import json

    from detrofit.deployment.latency import measure
    from detrofit.errors import DetrofitError
    from detrofit.files import write_file

    if out is not None and out.suffix not in (".json", ".csv"):
        raise DetrofitError(f"cannot write '{out}'; give .json or .csv")
    content = picture.read_bytes() if picture else _drawn_picture()
    result = measure(files, content, rounds, device=None if device == "auto" else device)
    _print(result)
    if out is not None:
        write_file(out, result.to_csv() if out.suffix == ".csv" else json.dumps(result.to_dict(), indent=1) + "\n")


def _drawn_picture() -> bytes:
    """A scene of 640 x 480 pixels as a JPEG file."""
    import io

    import numpy as np
    from PIL import Image

    from detrofit.data.demo_scenes import draw_scene

    file = io.BytesIO()
    Image.fromarray(draw_scene(np.random.default_rng(0), 480, 640).picture).save(file, "JPEG", quality=90)
    return file.getvalue()


def _print(result: Any) -> None:
    from rich.table import Table

    from detrofit.cli.console import table_console

    columns = (
        "file",
        "input",
        "pre",
        "model",
        "post",
        "total ms (95 %)",
        "p90",
        "per s",
        "times the first (95 %)",
        "open",
    )
    table = Table(*columns)
    for each in result.files:
        total, ratio = each.steps["total"], each.ratio
        table.add_row(
            each.file,
            f"{each.input_size[1]} x {each.input_size[0]}",
            *(f"{each.steps[step].median:.1f}" for step in ("pre", "model", "post")),
            f"{total.median:.1f} ({total.low:.1f}-{total.high:.1f})",
            f"{total.p90:.1f}",
            f"{each.pictures_per_second:.1f}",
            f"{ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f})",
            f"{each.open_ms:.0f}",
        )
    table_console().print(table)
    machine = result.machine
    print(f"{result.rounds} rounds in turns on {machine['processor']}, {machine['cores']} cores, batch 1; milliseconds")
