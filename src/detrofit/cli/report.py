"""The `report` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of studies, or their results.json; several are joined.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for the report; default: the study's own.")] = None,
) -> None:
    """Make the report of a study anew from its results alone, or one of several studies."""
    from detrofit.comparison.report import read_results, write_reports
    from detrofit.comparison.tables import print_verdicts
    from detrofit.errors import DetrofitError

    studies = [read_results(folder) for folder in folders]
    if len(folders) > 1 and out is None:
        raise DetrofitError("a report of several studies needs a folder of its own: give --out")
    target = out or (folders[0] if folders[0].is_dir() else folders[0].parent)
    write_reports(studies, target)
    for results in studies:
        print_verdicts(results)
    print(f"report: {target / 'report.html'}")
