"""The errors of an evaluation as a page: what each kind costs, and pictures of the worst."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from detrofit.data.index import DetectionIndex
from detrofit.evaluation.error_impact import MISSED, ErrorAnalysis
from detrofit.evaluation.errors import KINDS, RIGHT
from detrofit.evaluation.evaluate import Evaluation
from detrofit.evaluation.predictions import Predictions
from detrofit.files import write_file
from detrofit.pages.blocks import BoxKind, Cell, Column, Facts, Page, Panel, PictureRow, Row, Section, Table, Text
from detrofit.pages.pictures import EmbeddedPicture
from detrofit.pages.render import render_page

SHOWN = 12  # pictures of each sort
SIDE = 480  # of a shown picture, in pixels at most
MEANING = {
    "duplicate": "a second box for an object that a surer one found",
    "class": "the right place (IoU 0.5 or more), another class",
    "place": "the right class, IoU from 0.1 to below 0.5",
    "both": "another class, IoU from 0.1 to below 0.5",
    "background": "IoU below 0.1 with every object",
    MISSED: "an object that no box found, nor would with the right class or place",
}


def save_error_page(
    index: DetectionIndex,
    predictions: Predictions,
    evaluation: Evaluation,
    analysis: ErrorAnalysis,
    path: Path,
    title: str,
) -> None:
    """Write the page: one HTML file with its pictures."""
    gallery = _Gallery(index, predictions, analysis)
    alarms, misses = gallery.false_alarms(), gallery.misses()
    note = "White boxes are objects, dashed ones are wrong or missed; the pointer says what each is."
    page = Page(
        title=title,
        kind="Detrofit errors",
        lead=_lead(analysis),
        head=[_facts(evaluation, analysis)],
        sections=[
            Section("What each kind of error costs", [_table(analysis), Text(_COSTS, note=True)]),
            Section("The surest false alarms", [PictureRow("Surest first.", alarms, note)] if alarms else []),
            Section("The largest misses", [PictureRow("Largest first.", misses, note)] if misses else []),
        ],
    )
    write_file(path, render_page(page))


_COSTS = (
    "AP50 lost is what AP50 would gain if errors of this kind alone were put right (TIDE, arXiv:2008.08115): boxes get "
    "the right class or place, false ones go away, missed objects are not asked for. Kinds do not add up to what is "
    "lacking, since putting one right changes what another costs."
)


def _lead(analysis: ErrorAnalysis) -> str:
    worst = max(analysis.rows, key=lambda row: row.ap_lost)
    if worst.ap_lost <= 0:
        return "No kind of error costs AP50 by itself."
    return f"The dearest errors are of the kind “{worst.kind}”: they cost {worst.ap_lost:.3f} of AP50."


def _facts(evaluation: Evaluation, analysis: ErrorAnalysis) -> Facts:
    background = evaluation.background
    alarms = f"{background.per_picture:.2f} on {background.pictures}" if background.pictures else "no such pictures"
    return Facts(
        [
            ("split", evaluation.split),
            ("AP50", f"{analysis.ap50:.3f}"),
            ("score threshold", f"{analysis.threshold:.3f}"),
            ("false alarms a background picture", alarms),
        ]
    )


def _table(analysis: ErrorAnalysis) -> Table:
    columns = [Column("kind", numeric=False), Column("AP50 lost"), Column("at the threshold"), Column("at any score")]
    rows = [
        Row(
            [
                Cell(row.kind, small=MEANING[row.kind]),
                Cell(f"{row.ap_lost:.4f}", value=row.ap_lost),
                Cell(str(row.at_threshold), value=row.at_threshold),
                Cell(str(row.count), value=row.count),
            ]
        )
        for row in analysis.rows
    ]
    return Table("AP50 lost and counts by kind of error", columns, rows)


class _Gallery:
    """Panels of pictures with the boxes that went wrong."""

    def __init__(self, index: DetectionIndex, predictions: Predictions, analysis: ErrorAnalysis) -> None:
        self.index, self.predictions, self.analysis = index, predictions, analysis
        self.matches, self.kind = analysis.errors.matches, analysis.errors.kind
        self._pictures: dict[int, EmbeddedPicture] = {}

    def false_alarms(self) -> list[Panel]:
        """The surest detections that are wrong, at the threshold or above."""
        wrong = np.flatnonzero((self.kind >= 0) & (self.matches.score >= self.analysis.threshold))
        surest = wrong[np.argsort(-self.matches.score[wrong], kind="stable")][:SHOWN]
        return [self._alarm(int(row)) for row in surest]

    def misses(self) -> list[Panel]:
        """The largest objects that nothing at the threshold found."""
        missed = self.analysis.errors.missed(self.index, self.analysis.threshold)
        largest = missed[np.argsort(-self.index.areas[missed], kind="stable")][:SHOWN]
        return [self._miss(int(position)) for position in largest]

    def _alarm(self, row: int) -> Panel:
        image = int(self.matches.image_index[row])
        box = self.predictions.of(image)[0][self.matches.position[row]]
        kind, score = KINDS[self.kind[row]], self.matches.score[row]
        name = self.index.class_names[self.matches.label[row]]
        text = f"{name} {score:.2f}: {kind}"
        return self._panel(image, text, [(box, "false", text)])

    def _miss(self, position: int) -> Panel:
        image = int(np.searchsorted(self.index.box_offsets, position, side="right")) - 1
        box, name = self.index.boxes_xyxy[position], self.index.class_names[self.index.labels[position]]
        text = f"{name}, {box[2] - box[0]:.0f} x {box[3] - box[1]:.0f} pixels: missed"
        return self._panel(image, text, [(box, "missed", text), *self._found(image)])

    def _found(self, image: int) -> list[tuple[np.ndarray, BoxKind, str]]:
        """What was found in a picture, for a look at what took the missed object's place."""
        rows = np.flatnonzero((self.matches.image_index == image) & (self.matches.score >= self.analysis.threshold))
        boxes = self.predictions.of(image)[0]
        return [
            (
                boxes[self.matches.position[row]],
                "found" if self.kind[row] == RIGHT else "false",
                f"{self.index.class_names[self.matches.label[row]]} {self.matches.score[row]:.2f}",
            )
            for row in rows
        ]

    def _panel(self, image: int, text: str, boxes: list[tuple[np.ndarray, BoxKind, str]]) -> Panel:
        picture = self._picture(image)
        truth: list[tuple[np.ndarray, BoxKind, str]] = [
            (box, "truth", f"{self.index.class_names[label]} (there)")
            for box, label in zip(self.index.boxes(image), self.index.labels_of(image))
        ]
        name = Path(self.index.name(image)).name
        return Panel(
            f"{text} ({name})", picture.picture, [picture.box(*each) for each in (*truth, *boxes)], f"{name}: {text}"
        )

    def _picture(self, image: int) -> EmbeddedPicture:
        """The picture, small, made once."""
        if image not in self._pictures:
            self._pictures[image] = EmbeddedPicture(self.index.path(image), SIDE)
        return self._pictures[image]
