"""The `report` command."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated

import typer


def report(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of studies, or their results.json; several are joined.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for the report; default: the study's own.")] = None,
    latency: Annotated[
        list[Path], typer.Option(help="A file of `detrofit bench` made on another device; repeatable.")
    ] = [],  # noqa: B006 - typer needs a list
    data: Annotated[
        Path | None, typer.Option(help="Where the study's data is, for pictures; default: where it was.")
    ] = None,
    pictures: Annotated[bool, typer.Option(help="Embed the test pictures on which variants differ most.")] = True,
) -> None:
    """Make the report of a study anew from its results alone, or one of several studies joined."""
    from detrofit.comparison.analysis import write_results
    from detrofit.comparison.report.differing_pictures import study_test_split
    from detrofit.comparison.report.files import add_latencies, read_results, remembered_data, write_reports
    from detrofit.comparison.report.join import join_studies
    from detrofit.comparison.report.pictures import pictures_if_possible
    from detrofit.comparison.tables import print_verdicts
    from detrofit.errors import DetrofitError
    from detrofit.files import alone
    from detrofit.pages.blocks import Block

    if len(folders) > 1 and out is None:
        raise DetrofitError("a report of several studies needs a folder of its own: give --out")
    places = [folder if folder.is_dir() else folder.parent for folder in folders]
    known = data or next((found for place in places if (found := remembered_data(place))), None)
    target, changes_results = out or places[0], bool(out or latency)
    # A study that runs may be reported on, but not changed under its hands.
    with alone(target, "study") if changes_results else nullcontext():
        results = join_studies([read_results(folder) for folder in folders])
        if latency:
            results = add_latencies(results, latency)
        shown: list[Block] = []
        if known and pictures:
            say = partial(print, file=sys.stderr)
            shown = pictures_if_possible(results, partial(study_test_split, results, known), places, say)
        if changes_results:
            write_results(results, target)
        write_reports(results, target, shown)
    print_verdicts(results)
    print(f"report: {target / 'report.html'}")
