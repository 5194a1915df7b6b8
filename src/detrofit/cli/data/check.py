"""The `data check` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detrofit.cli.options import ImageSize


def check(
    data: Annotated[Path, typer.Argument(help="data.yaml, COCO JSON or folder, or Pascal VOC folder.")],
    imgsz: ImageSize = "640",
    json_: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> int:
    """Look at every label and picture; exit code 1 if something must be mended before training."""
    import json

    from rich.console import Console
    from rich.progress import Progress, TaskID

    from detrofit.cli.console import table_console
    from detrofit.cli.options import parse_image_size
    from detrofit.data.check import check_dataset
    from detrofit.data.open import open_dataset

    dataset = open_dataset(data)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done, total=total)

        report = check_dataset(dataset, parse_image_size(imgsz), show)
    if json_:
        print(json.dumps(report.to_dict(), ensure_ascii=False, indent=1))
    else:
        report.render(table_console())
    return 0 if report.ok else 1
