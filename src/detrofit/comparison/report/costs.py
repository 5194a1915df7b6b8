"""What each variant costs: size, operations, training, and latency on every runtime and device that was timed."""

from __future__ import annotations

from typing import Any

from detrofit.comparison.latencies import HERE
from detrofit.comparison.report.content import NOTHING, Content, runtime_words
from detrofit.deployment.machine import is_busy
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
    note = " ".join(filter(None, [_NOTE, _machines(content)]))
    blocks: list[Block] = [Table("Costs", columns, rows), Text(note, note=True)] if rows else []
    for measurement in content.measurements:
        blocks += _latency_blocks(content, measurement)
    return blocks


def _machines(content: Content) -> str:
    """That runs were made under conditions whose times do not compare; empty where all were alike."""
    machines = [run["machine"] for line in content.lines for run in content.runs(line["name"]) if "machine" in run]
    found = {
        f"{each['processor']}, {each['device']}, {each['threads']} thread{'s' * (each['threads'] != 1)}"
        for each in machines
    }
    if len(found) < 2:
        return ""
    return (
        f"The runs were made in {len(found)} ways, whose times and memory do not compare: {'; '.join(sorted(found))}."
    )


def _cell(costs: dict[str, float], key: str) -> Cell:
    if key not in costs:
        return Cell(NOTHING)
    _, scale, form = _COLUMNS[key]
    return Cell(f"{scale * costs[key]:{form}}", value=costs[key])


def _latency_blocks(content: Content, measurement: dict[str, Any]) -> list[Block]:
    found = {key: files for key, files in content.latencies().items() if key[0] == measurement["source"]}
    names = [line["name"] for line in content.lines if any(line["name"] in files for files in found.values())]
    notes = [f"{note}." for note in measurement["notes"]]
    if not names:
        return [Text(" ".join(notes), note=True)] if notes else []
    columns, groups = [Column("variant")], [("", 1)]
    for source, runtime in found:
        groups.append((runtime_words(source, runtime), 3))
        columns += [Column("latency, ms"), Column("p90"), Column("ratio")]
    rows = [Row([name, *_timings(found, name)], content.series[name]) for name in names]
    where = "this study's machine" if measurement["source"] == HERE else measurement["source"]
    table = Table(f"Latency on {where}", columns, rows, groups=groups, compact=len(found) > 2)
    return [table, Text(" ".join([_how(measurement), *notes]), note=True)]


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


def _how(measurement: dict[str, Any]) -> str:
    """How a measurement was made, and what makes it less than it seems."""
    source = "memory" if "identity" in measurement else "a file"  # a study's own, or of `detrofit bench`
    sentences = [
        f"Fused and exported, batch {measurement['batch']}, from a picture in {source} to boxes: median with its 95 % "
        f"interval and 90th percentile (p90) of {measurement['rounds']} rounds, all in turns in one process; ratios to "
        f"the base are of the same rounds. {_machine_words(measurement)}."
    ]
    machine = measurement["machine"]
    if machine.get("load") is not None and is_busy(machine):
        sentences.append(f"The machine was busy (load {machine['load']}): the ratios say more than the times.")
    untrained = dict.fromkeys(each["variant"] for each in measurement["files"] if not each["trained"])
    if untrained:
        sentences.append(f"Timed with random weights, as the trained ones were not at hand: {', '.join(untrained)}.")
    return " ".join(sentences)


def _machine_words(measurement: dict[str, Any]) -> str:
    """The processor, the threads and the day of a measurement."""
    machine = measurement["machine"]
    words = [machine.get("processor", "unknown processor"), f"{machine.get('cores', '?')} cores"]
    for count, where in ((measurement.get("threads"), "of each runtime"), (machine.get("torch_threads"), "in PyTorch")):
        if count:
            words.append(f"{count} thread{'s' * (count != 1)} {where}")
    return ", ".join([*words, *filter(None, [measurement.get("date")])])
