"""The `data convert` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert(
    data: Annotated[Path, typer.Argument(help="data.yaml, COCO JSON or folder, or Pascal VOC folder.")],
    form: Annotated[str, typer.Argument(help="coco, yolo or voc.")],
    destination: Annotated[Path, typer.Argument(help="The new folder.")],
    link: Annotated[bool, typer.Option("--link", help="Hard-link pictures instead of copying them.")] = False,
) -> None:
    """Write a data set in another form, with all that the form can hold."""
    from rich.console import Console
    from rich.progress import Progress

    from detrofit.data.convert import convert_dataset
    from detrofit.data.open import open_dataset

    dataset = open_dataset(data)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("pictures")
        done = convert_dataset(
            dataset, form, destination, link, lambda number, total: bar.update(task, completed=number, total=total)
        )
    print(f"{done.pictures:,} pictures with {done.boxes:,} boxes as {done.kind} in {done.destination}")
    for phrase in done.not_held:
        print(f"not held by this form: {phrase}")
