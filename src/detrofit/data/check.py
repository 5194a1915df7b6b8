"""`check_dataset`: everything about a data set that would spoil training or evaluation, in one report."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from detrofit.data.check_boxes import SplitSummary, check_classes, check_labels, check_usable_boxes, summarise
from detrofit.data.check_pictures import Gallery, build_gallery, check_copies, check_pictures, inspect_pictures
from detrofit.data.findings import ERROR, INFO, SEVERITIES, WARNING, Finding, Findings
from detrofit.data.open import Dataset
from detrofit.data.reading import Reading, build_index

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[[str, int, int], None]
SHOWN_EXAMPLES = 5
SHOWN_CLASSES = 40
COLOURS = {ERROR: "red", WARNING: "yellow", INFO: "cyan"}
USUAL_SPLITS = ("train", "val")


@dataclass(frozen=True)
class Report:
    """What the check found at `imgsz` (height, width). `ok` is False if anything is an error."""

    source: str
    kind: str
    imgsz: tuple[int, int]
    class_names: tuple[str, ...]
    splits: tuple[SplitSummary, ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return all(finding.severity != ERROR for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        return {"ok": self.ok, **asdict(self)}

    def render(self, console: Console) -> None:
        """Print the report: what is there, then what was found, errors first."""
        from rich.text import Text

        console.print(Text(f"{self.kind} data set {self.source}", "bold"))
        self._render_splits(console)
        self._render_classes(console)
        for finding in self.findings:
            _render_finding(console, finding)
        counts = [sum(finding.severity == severity for finding in self.findings) for severity in SEVERITIES]
        verdict = "no errors" if self.ok else "there are errors"
        tally = ", ".join(f"{count} {severity}" for count, severity in zip(counts, SEVERITIES, strict=True))
        console.print(Text(f"{verdict}: kinds found: {tally}", "bold green" if self.ok else "bold red"))

    def _render_splits(self, console: Console) -> None:
        from rich.table import Table

        height, width = self.imgsz
        table = Table("split", title=f"boxes as large as they are at {width} x {height}", title_justify="left")
        for heading in ("pictures", "background", "boxes", "small <32²", "medium", "large >96²", "side 10/50/90 %"):
            table.add_column(heading, justify="right")
        for split in self.splits:
            numbers = (split.pictures, split.background, split.boxes, split.small, split.medium, split.large)
            sides = " / ".join(f"{side:.0f}" for side in split.typical_sides)
            table.add_row(split.split, *(f"{number:,}" for number in numbers), sides)
        console.print(table)

    def _render_classes(self, console: Console) -> None:
        from rich.markup import escape
        from rich.table import Table

        table = Table("class")
        for split in self.splits:
            table.add_column(split.split, justify="right")
        for position, name in enumerate(self.class_names[:SHOWN_CLASSES]):
            table.add_row(escape(name), *(f"{split.class_counts[position]:,}" for split in self.splits))
        if len(self.class_names) > SHOWN_CLASSES:
            table.add_row(f"... {len(self.class_names) - SHOWN_CLASSES} more")
        console.print(table)


def _render_finding(console: Console, finding: Finding) -> None:
    from rich.text import Text

    head = Text(f"{finding.severity:8}", f"bold {COLOURS[finding.severity]}")
    console.print(head + Text(f"{finding.message}  [{finding.code}]", "default"))
    for example in finding.examples[:SHOWN_EXAMPLES]:
        console.print(Text(f"           {example}", "dim"))
    if finding.count > SHOWN_EXAMPLES:
        console.print(Text(f"           ... {finding.count - SHOWN_EXAMPLES:,} more", "dim"))


def check_dataset(dataset: Dataset, imgsz: int | tuple[int, int] = 640, progress: Progress | None = None) -> Report:
    """Look at every label and decode every picture of every split.

    `imgsz` is the training resolution at which box sizes are judged, one side or (height, width) in pixels;
    `progress(stage, done, total)` is called often. Nothing is changed on disk.
    """
    size = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
    findings = Findings()
    summaries: list[SplitSummary] = []
    galleries: list[Gallery] = []
    for split in dataset.splits:
        reading = dataset.reading(split)
        index = build_index(reading, split, dataset.class_names, dataset.category_ids)
        check_labels(findings, reading, split, dataset.category_ids)
        check_usable_boxes(findings, index, size)
        summaries.append(summarise(index, size))
        galleries.append(_check_files(findings, split, reading, progress or _silent))
    for problem in dataset.reader.strays():
        findings.add(problem.code, [f"{problem.where}: {problem.detail}" if problem.detail else problem.where])
    check_copies(findings, galleries)
    check_classes(findings, summaries, dataset.class_names)
    _check_splits(findings, dataset, summaries)
    source = str(dataset.source)
    return Report(source, dataset.kind, size, dataset.class_names, tuple(summaries), findings.all())


def _silent(stage: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def _check_files(findings: Findings, split: str, reading: Reading, progress: Progress) -> Gallery:
    paths = [os.path.join(reading.root, name) for name in reading.names()]
    facts = inspect_pictures(paths, lambda done: progress(f"pictures of {split}", done, len(paths)))
    check_pictures(findings, split, reading, facts)
    return build_gallery(split, reading, facts)


def _check_splits(findings: Findings, dataset: Dataset, summaries: list[SplitSummary]) -> None:
    absent = dataset.reader.absent
    findings.add("missing-split", [f"{split} should be {place}" for split, place in absent.items()])
    findings.add("no-split", [each for each in USUAL_SPLITS if each not in dataset.splits and each not in absent])
    findings.add("empty-split", [summary.split for summary in summaries if not summary.pictures])
    findings.add("category-conflict", dataset.category_conflicts())
