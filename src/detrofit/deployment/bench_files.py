"""A benchmark as a record that is read again, as a table for a spreadsheet, and as a picture."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from detrofit.deployment.latency import FORMAT, STEPS, Benchmark, FileLatency
from detrofit.errors import DetrofitError
from detrofit.files import atomic_write, write_file

Interval: TypeAlias = tuple[float, float, float]  # a median with its 95 % interval
Row = TypeVar("Row")
_COLOURS = {"pre": "#8da0cb", "model": "#3b6ea8", "post": "#fc8d62"}


def write_bench(result: Benchmark, target: Path) -> None:
    """Write to .json, .csv, .png or .svg, as the suffix says."""
    writer_of(target)(result, target)


def read_record(file: Path) -> dict[str, Any]:
    """What is in a .json file of `write_bench`, with its `machine` and `files`, whose keys are not looked at.

    Raises DetrofitError for what is no such file, or was written by a version with another form of it.
    """
    try:
        content = json.loads(file.read_text("utf-8"))
        own, rows, machine = content["format"], content["files"], content["machine"]
    except FileNotFoundError:
        raise DetrofitError(f"no record at {file}; make one with `detrofit bench FILES --out bench.json`") from None
    except (OSError, ValueError, KeyError, TypeError):
        rows = machine = None
    if not isinstance(rows, list) or not isinstance(machine, dict):
        raise DetrofitError(f"{file} is no file of `detrofit bench --out`; make it anew")
    if own != FORMAT:
        raise DetrofitError(f"{file} has the form {own}, and this version reads {FORMAT}; take one version for both")
    return dict(content)


@dataclass(frozen=True)
class TimedFile:
    """What a record of `write_bench` says of a file.

    Attributes:
        total: milliseconds from picture to boxes, a median with its interval.
        ratio: that over the first file's of the record, of the same rounds, also with its interval.
        runtime: that ran it.
        parameters, input_size: of the network; height and width in pixels.
    """

    total: Interval
    ratio: Interval
    runtime: str
    parameters: int | None
    input_size: tuple[int, int]


def read_timed(file: Path) -> tuple[dict[str, TimedFile], dict[str, Any]]:
    """The files of a .json file of `write_bench` by the stem of their names, and the machine that they were timed on.

    Raises DetrofitError for a file that is no such record, was made with several pictures at a time, or has a stem
    twice.
    """
    return _read_rows(
        file,
        lambda row: TimedFile(
            _interval(row["steps"]["total"]),
            _interval(row["ratio"]),
            str(row["runtime"]),
            row["parameters"],
            (int(row["input_size"][0]), int(row["input_size"][1])),
        ),
    )


def read_totals(file: Path) -> tuple[dict[str, Interval], dict[str, Any]]:
    """As `read_timed`, but of each file only the total."""
    return _read_rows(file, lambda row: _interval(row["steps"]["total"]))


def _read_rows(file: Path, reader: Callable[[dict[str, Any]], Row]) -> tuple[dict[str, Row], dict[str, Any]]:
    content = read_record(file)
    rows: dict[str, Row] = {}
    try:
        if content["batch"] != 1:
            raise DetrofitError(f"{file} has times of {content['batch']} pictures at once; time them one by one")
        for row in content["files"]:
            stem = stem_of(row)
            if stem in rows:
                raise DetrofitError(f"{file} has '{stem}' twice; time it with one runtime")
            rows[stem] = reader(row)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DetrofitError(f"{file} is no file of `detrofit bench --out`: {error!r}; make it anew") from None
    return rows, content["machine"]


def _interval(values: dict[str, Any]) -> Interval:
    return float(values["median"]), float(values["low"]), float(values["high"])


def stem_of(row: dict[str, Any]) -> str:
    """The stem of the name of a record's file; a record from another system has that system's separators."""
    return Path(str(row["file"]).replace("\\", "/")).stem


def writer_of(target: Path) -> Callable[[Benchmark, Path], None]:
    """What writes such a file; DetrofitError for another suffix, or for a plot without matplotlib."""
    suffix = target.suffix.lower()
    if suffix in (".png", ".svg"):
        try:
            import matplotlib  # noqa: F401
        except ModuleNotFoundError:
            raise DetrofitError(f"{target} needs matplotlib: pip install matplotlib, or give .json or .csv") from None
        return _plot
    if suffix not in (".json", ".csv"):
        raise DetrofitError(f"cannot write '{target}'; give .json, .csv, .png or .svg")
    return _write_json if suffix == ".json" else _write_csv


def _write_json(result: Benchmark, target: Path) -> None:
    write_file(target, json.dumps(result.to_dict(), indent=1) + "\n")


def _write_csv(result: Benchmark, target: Path) -> None:
    rows = [_row(each) for each in result.files]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_file(target, text.getvalue())


def _row(each: FileLatency) -> dict[str, object]:
    """The numbers of a file, one level deep."""
    content = asdict(each)
    steps, ratio, (height, width) = content.pop("steps"), content.pop("ratio"), content.pop("input_size")
    content |= {"input_height": height, "input_width": width}
    content |= {f"ratio_{name}": value for name, value in ratio.items()}
    return content | {f"{step}_{name}": value for step in STEPS for name, value in steps[step].items()}


def _plot(result: Benchmark, target: Path) -> None:
    """A bar a file, of the medians of the steps, with the interval of the total."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.2 + 0.55 * len(result.files)), layout="constrained")
    axes = figure.add_subplot()
    names = [f"{each.variant}\n{each.runtime}, {each.precision}" for each in result.files]
    places = list(range(len(names)))
    left = [0.0] * len(names)
    for step, colour in _COLOURS.items():
        widths = [each.steps[step].median for each in result.files]
        axes.barh(places, widths, left=left, color=colour, label=step, height=0.65)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    below = [max(each.median - each.low, 0) for each in result.files]
    above = [max(each.high - each.median, 0) for each in result.files]
    medians = [each.median for each in result.files]
    axes.errorbar(medians, places, xerr=[below, above], fmt="none", ecolor="black", capsize=3, label="total, 95 %")
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    batch = "a picture" if result.batch == 1 else f"a batch of {result.batch}"
    axes.set_xlabel(f"milliseconds {batch}, {result.machine['processor']}, {result.machine['cores']} cores")
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    with atomic_write(target) as temporary:
        figure.savefig(temporary, format=target.suffix[1:].lower(), dpi=150)
