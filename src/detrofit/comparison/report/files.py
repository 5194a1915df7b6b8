"""The files of a report, all from results alone; pictures come from the data, where it is at hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from detrofit.comparison.analysis import FORMAT, RESULTS, Results, analyse
from detrofit.comparison.jobs import read_json
from detrofit.comparison.latencies import read_bench
from detrofit.comparison.report.content import Content
from detrofit.comparison.report.page import study_charts, study_page
from detrofit.comparison.report.tables import table_csv, table_md, table_tex
from detrofit.errors import DetrofitError
from detrofit.files import write_file
from detrofit.pages.blocks import Block
from detrofit.pages.render import render_page

REPORT, FIGURES, LOCAL = "report.html", "figures", "local.json"


def read_results(place: Path) -> Results:
    """The results of a study's folder or of a results.json, with all that follows from its runs made anew."""
    file = place / RESULTS if place.is_dir() else place
    if not file.is_file():
        raise DetrofitError(f"{place} holds no study: it has no {RESULTS}")
    content = read_json(file)
    if content.get("format") != FORMAT or "runs" not in content:
        raise DetrofitError(f"{file} is no results of a study in format {FORMAT}")
    return analyse(content)


def remember_data(folder: Path, data: Path) -> None:
    """Note beside a study where its data is on this machine, which its results do not say."""
    write_file(folder / LOCAL, json.dumps({"data": str(data.absolute())}) + "\n")


def remembered_data(folder: Path) -> Path | None:
    """Where the data of the study in `folder` was, if that was noted."""
    try:
        return Path(json.loads((folder / LOCAL).read_text("utf-8"))["data"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def add_latencies(results: Results, files: Sequence[Path]) -> Results:
    """The results with what `detrofit bench` measured elsewhere; a file of a name that they have replaces that."""
    names = [line["name"] for line in results["variants"]]
    measured = {each["source"]: each for each in results.get("latency", [])}
    measured |= {each["source"]: each for each in (read_bench(file, names) for file in files)}
    return analyse({**results, "latency": list(measured.values())})


def write_reports(results: Results, folder: Path, pictures: Sequence[Block] = ()) -> None:
    """Write the tables, the figures as SVG and PDF, and report.html into a folder."""
    content = Content(results)
    charts = study_charts(content)
    write_file(folder / "table.csv", table_csv(content))
    write_file(folder / "table.tex", table_tex(content))
    write_file(folder / "table.md", table_md(content))
    for chart in charts.all:
        write_file(folder / FIGURES / f"{chart.name}.svg", chart.svg)
        write_file(folder / FIGURES / f"{chart.name}.pdf", chart.pdf)
    write_file(folder / REPORT, render_page(study_page(content, charts, pictures)))
