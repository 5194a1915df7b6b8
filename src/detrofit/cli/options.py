"""Options that several commands share, and what they mean together."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

Swaps = Annotated[
    list[str], typer.Option("--swap", help="SLOT=PART, the part a name or {part: NAME, OPTION: VALUE}; repeatable.")
]
Settings = Annotated[list[str], typer.Option("--set", help="KEY=VALUE of any setting, e.g. train.lr=1e-3; repeatable.")]
Plugins = Annotated[list[Path], typer.Option("--plugin", help="A Python file with parts of your own; repeatable.")]
Weights = Annotated[
    str | None,
    typer.Option("--weights", help="In place of FILE: also another program's checkpoint, hf:ORGANISATION/NAME, a URL."),
]
Data = Annotated[Path, typer.Option("--data", help="data.yaml, COCO JSON or folder, or Pascal VOC folder.")]
ImageSize = Annotated[str, typer.Option("--imgsz", help="Input size: one number, or HEIGHT,WIDTH; multiples of 32.")]
Tile = Annotated[
    str | None,
    typer.Option("--tile", help="See pictures in tiles of SIZE[,OVERLAP] of their pixels, for small objects."),
]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps or auto.")]


def parse_image_size(text: str) -> tuple[int, int]:
    """`640` or `480,640` as (height, width); DetrofitError unless both are multiples of 32 from 32 on."""
    from detrofit.errors import DetrofitError

    sides = text.split(",")
    if len(sides) > 2 or not all(side.strip().isdecimal() for side in sides):
        raise DetrofitError(f"--imgsz takes a number or HEIGHT,WIDTH, not '{text}'")
    height, width = int(sides[0]), int(sides[-1])
    if min(height, width) < 32 or height % 32 or width % 32:
        raise DetrofitError(f"--imgsz {text}: height and width must be multiples of 32")
    return height, width


def parse_swaps(swaps: list[str]) -> dict[str, Any]:
    """`SLOT=PART` texts as a retrofit in its YAML form."""
    from detrofit.config.load import parse_assignments

    return parse_assignments(swaps, "--swap")


@contextmanager
def model_file(file: str | None, weights: str | None) -> Iterator[tuple[Path, bool]]:
    """The model file that a command shall read, and whether it lies where the person has put it.

    `file` and `weights` take the same; one of them must be given. What was downloaded, or made of another program's
    weights for now, has no place beside which results could go.
    """
    from detrofit.errors import DetrofitError

    if (file is None) == (weights is None):
        raise DetrofitError("give a model file, or --weights, and not both")
    named = file if file is not None else str(weights)
    if Path(named).suffix.lower() in (".onnx", ".xml"):  # of those that run without torch
        yield Path(named), True
        return
    from detrofit.weights.import_file import as_model_file

    with as_model_file(named) as path:
        in_place = Path(named) in (path, path.parent)
        if not in_place:
            _tell_of(path)
        yield path, in_place


def _tell_of(file: Path) -> None:
    """Whose weights were downloaded, or made into a model file for now, and their licence."""
    from detrofit.weights.model_file import read_info

    info = read_info(file)
    source = info.trained.get("imported_from", "Detrofit")
    print(f"weights of {source}, here {info.name}; licence: {info.licence}", file=sys.stderr)
