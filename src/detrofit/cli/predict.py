"""The `predict` command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detrofit.cli.options import Device, Plugins, Tile, Weights, model_file

if TYPE_CHECKING:
    from rich.table import Table

    from detrofit.runtime.results import Detections
    from detrofit.runtime.stream import ResultStream

ROWS_SHOWN = 20  # sources by name; the rest are in the sum


def predict(
    file: Annotated[str, typer.Argument(help="A model file or run folder; with --weights the first of the sources.")],
    sources: Annotated[
        list[str] | None,
        typer.Argument(help="Pictures, videos, folders, glob patterns, a camera (0), rtsp:// or http://, - (input)."),
    ] = None,
    weights: Weights = None,
    threshold: Annotated[float | None, typer.Option(help="Lowest score; default: the file's own.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for what is saved.")] = Path("predictions"),
    save: Annotated[str, typer.Option(help="What to save: plot, coco, yolo, csv; several with commas.")] = "plot,coco",
    batch: Annotated[int, typer.Option(help="Pictures at a time.")] = 1,
    every: Annotated[int, typer.Option(help="Of a video, take each N-th frame.")] = 1,
    half: Annotated[bool | None, typer.Option(help="Compute in half precision; default: as the file says.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of one inference; default: the backend's.")] = None,
    tile: Tile = None,
    device: Device = "auto",
    plugin: Plugins = [],  # noqa: B006 - typer needs a list
) -> None:
    """Find objects in pictures and videos: annotated copies, COCO JSON, YOLO labels, CSV, and a table."""
    from rich.console import Console
    from rich.progress import track

    from detrofit.cli.console import table_console
    from detrofit.errors import DetrofitError
    from detrofit.runtime.detector import Detector
    from detrofit.runtime.frames import StreamLost
    from detrofit.runtime.writers import ResultWriters
    from detrofit.tiling import parse_tiling

    chosen = None if device == "auto" else device
    tiling = parse_tiling(tile) if tile else None
    shown = [*([file] if weights is not None else []), *(sources or [])]
    if not shown:
        raise DetrofitError("give pictures, a video, a folder or a camera to look at, after the model file")
    with model_file(file if weights is None else None, weights) as (path, _):
        detector = Detector(
            path, threshold=threshold, device=chosen, plugins=plugin, half=half, threads=threads, tiling=tiling
        )
    results = detector.stream(shown, batch=batch, every=every)
    kinds = [kind.strip() for kind in save.split(",") if kind.strip()]
    total = results.expected()
    counts = Counts()
    lost = None
    errors = Console(stderr=True)
    with (
        ResultWriters(out, kinds, results.sources, detector.class_names, detector.category_ids) as writers,
        results,
        _stopped_by_signals(results) as signals,
    ):
        try:
            for found in track(
                results, "predicting", total, console=errors, transient=True, disable=not errors.is_terminal
            ):
                writers.add(found)
                counts.add(found)
        except StreamLost as error:  # what it gave is kept
            lost = error
    table_console().print(counts.table())
    print(counts.line(results) + (f"; {', '.join(kinds)} in {out}" if kinds and counts.sum.pictures else ""))
    if lost is not None:
        raise lost
    if signals and total is not None:
        raise KeyboardInterrupt


@contextmanager
def _stopped_by_signals(results: ResultStream) -> Iterator[list[int]]:
    """The first Ctrl-C (or SIGTERM) ends the results in order, and is then in the list; a second one breaks off."""
    import signal

    came: list[int] = []

    def stop(number: int, _: object) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)
        results.stop()

    before = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@dataclass
class Row:
    """What was found in one source."""

    name: str
    pictures: int = 0
    objects: int = 0
    best: str = "-"
    best_score: float = -1.0

    def add(self, found: Detections) -> None:
        """Count one result of the source."""
        self.pictures += 1
        self.objects += len(found)
        if len(found) and found.scores[0] > self.best_score:
            self.best, self.best_score = f"{found.names[0]} {found.scores[0]:.2f}", float(found.scores[0])


class Counts:
    """What was found, by source; memory grows with neither pictures nor sources."""

    def __init__(self) -> None:
        self.sum = Row("all")
        self._rows: dict[int, Row] = {}

    def add(self, found: Detections) -> None:
        """Count one result."""
        self.sum.add(found)
        if found.source_index in self._rows or len(self._rows) < ROWS_SHOWN:
            self._rows.setdefault(found.source_index, Row(found.source)).add(found)

    def table(self) -> Table:
        """A row for each of the first sources."""
        from rich.markup import escape
        from rich.table import Table

        table = Table("source", "pictures", "objects", "best")
        for row in self._rows.values():
            table.add_row(escape(row.name), str(row.pictures), str(row.objects), escape(row.best))
        others = self.sum.pictures - sum(row.pictures for row in self._rows.values())
        if others:
            table.add_row("all others", str(others), "", "")
        return table

    def line(self, results: ResultStream) -> str:
        """All of it in a line, with what went wrong on the way."""
        troubles = {"left out": results.skipped, "passed over": results.dropped, "reopened": results.reopened}
        told = "".join(f", {number} {what}" for what, number in troubles.items() if number)
        return f"{_counted(self.sum.pictures, 'picture')}, {_counted(self.sum.objects, 'object')}{told}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
