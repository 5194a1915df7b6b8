"""What each variant costs: size, operations, training, and latency on every runtime and device that was timed."""

from __future__ import annotations

from typing import Any

from detrofit.comparison.report.content import NOTHING, Content, runtime_words
from detrofit.pages.blocks import Block, Cell, Column, Row, Table, Text

_COLUMNS = {
    "parameters": ("parameters, M", 1e-6, ".2f"),
    "gflops": ("GFLOPs", 1.0, ".2f"),
    "file_bytes": ("file, MB", 1e-6, ".1f"),
    "train_seconds_per_picture": ("training, ms a picture", 1e3, ".1f"),
    "peak_memory_bytes": ("peak memory, MB", 1e-6, ",.0f"),
    "peak_cuda_bytes": ("peak GPU memory, MB", 1e-6, ",.0f"),
    "seconds": ("a run, min", 1 / 60, ".1f"),
}
_NOTE = (
    "Parameters and operations of the fused model at its own input size, two operations a multiply-add. Training time "
    "and memory are those of the runs, medians over seeds."
)


def cost_blocks(content: Content) -> list[Block]:
    """A table of what the runs cost, and one of latencies for each device."""
    used = [key for key in _COLUMNS if any(key in line["costs"] for line in content.lines)]
    columns = [Column("variant"), *(Column(_COLUMNS[key][0]) for key in used)]
    rows = [
        Row([line["name"], *(_cell(line["costs"], key) for key in used)], content.series[line["name"]])
        for line in content.lines
        if line["costs"]
    ]
    blocks: list[Block] = [Table("Costs", columns, rows), Text(_NOTE, note=True)] if rows else []
    for measurement in content.results.get("latency", []):
        blocks += _latency_blocks(content, measurement)
    return blocks


def _cell(costs: dict[str, float], key: str) -> Cell:
    if key not in costs:
        return Cell(NOTHING)
    _, scale, form = _COLUMNS[key]
    return Cell(f"{scale * costs[key]:{form}}", value=costs[key])


def _latency_blocks(content: Content, measurement: dict[str, Any]) -> list[Block]:
    found = {key: files for key, files in content.latencies().items() if key[0] == measurement["source"]}
    names = [line["name"] for line in content.lines if any(line["name"] in files for files in found.values())]
    columns, groups = [Column("variant")], [("", 1)]
    for source, runtime in found:
        groups.append((runtime_words(source, runtime), 3))
        columns += [Column("latency, ms"), Column("p90"), Column("ratio")]
    rows = [Row([name, *_timings(found, name)], content.series[name]) for name in names]
    where = "this study's machine" if measurement["source"] == "study" else measurement["source"]
    table = Table(f"Latency on {where}", columns, rows, groups=groups, compact=len(found) > 2)
    return [table, Text(_latency_note(measurement), note=True)] if rows else []


def _timings(found: dict[tuple[str, str], dict[str, dict[str, Any]]], name: str) -> list[Cell]:
    cells = []
    for files in found.values():
        file = files.get(name)
        if file is None:
            cells += [Cell(NOTHING)] * 3
            continue
        total, ratio = file["total"], file["ratio"]
        cells += [
            Cell(_ms(total["median"]), small=f"{_ms(total['low'])} to {_ms(total['high'])}", value=total["median"]),
            Cell(_ms(total["p90"]), value=total["p90"]),
            _ratio(ratio) if ratio else Cell(NOTHING),
        ]
    return cells


def _ms(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:.1f}"


def _ratio(spread: dict[str, float]) -> Cell:
    certain = spread["low"] == spread["high"]  # the base's own
    interval = "" if certain else f"{spread['low']:.3f} to {spread['high']:.3f}"
    return Cell(f"× {spread['median']:.3f}", small=interval, value=spread["median"])


def _latency_note(measurement: dict[str, Any]) -> str:
    machine = measurement["machine"]
    threads = machine.get("torch_threads")
    pytorch = f", {threads} thread{'s' * (threads != 1)} in PyTorch" if threads else ""
    where = f"{machine.get('processor', 'unknown processor')}, {machine.get('cores', '?')} cores{pytorch}"
    day = f", {measurement['date']}" if measurement.get("date") else ""
    untrained = [each["variant"] for each in measurement["files"] if not each.get("trained", True)]
    lines = [
        f"Fused and exported, batch {measurement.get('batch', 1)}, from a picture in memory to boxes: median with its "
        f"95 % interval and 90th percentile (p90) of {measurement['rounds']} rounds, all variants in turns in one "
        "process; ratios to the base are of the same rounds. "
        f"{where}{day}.",
        *(f"{note}." for note in measurement["notes"]),
    ]
    if untrained:
        names = ", ".join(dict.fromkeys(untrained))
        lines.append(f"Timed with random weights, as the trained ones were not at hand: {names}.")
    return " ".join(lines)
