"""Pictures of a split side by side: what is there, and what the detector says."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from detrofit.data.index import DetectionIndex
from detrofit.drawing import colour_of, draw_boxes, font_for
from detrofit.evaluation.predictions import Predictions
from detrofit.files import write_file
from detrofit.pictures import decode_picture

_CELL_WIDTH, _CELL_HEIGHT = 480, 480  # the most that one picture takes, in pixels
_HEADING_HEIGHT, _GAP = 26, 8
_PAIRS_IN_ROW = 2
_HEADING_SIZE = 16
_CROWD_COLOUR = "#808080"


def save_picture_grid(
    index: DetectionIndex,
    predictions: Predictions,
    image_indices: Sequence[int],
    path: str | Path,
    threshold: float,
) -> None:
    """Write pairs of pictures, truth at the left and detections with their scores at the right, as JPEG or PNG.

    Args:
        image_indices: which pictures to show, as positions in the index; `spread_indices` picks some.
        path: the file to write; its suffix chooses the format.
        threshold: detections of a lower score are not drawn.
    """
    pairs = [_pair(index, predictions, position, threshold) for position in image_indices]
    columns = max(1, min(_PAIRS_IN_ROW, len(pairs)))
    rows = [pairs[start : start + columns] for start in range(0, len(pairs), columns)]
    canvas = _stack([_stack(row, 0) for row in rows], 1)
    buffer = io.BytesIO()
    canvas.save(buffer, format="PNG" if Path(path).suffix.lower() == ".png" else "JPEG", quality=92)
    write_file(Path(path), buffer.getvalue())


def spread_indices(index: DetectionIndex, count: int) -> list[int]:
    """`count` positions spread evenly over the pictures with objects, or over all where none has any."""
    positions = np.flatnonzero(np.diff(index.box_offsets) > 0)
    if len(positions) == 0:
        positions = np.arange(len(index))
    chosen = np.linspace(0, len(positions) - 1, min(count, len(positions))).round().astype(int)
    return [int(position) for position in positions[chosen]]


def _pair(index: DetectionIndex, predictions: Predictions, position: int, threshold: float) -> Image.Image:
    picture = Image.fromarray(decode_picture(index.path(position), at_least=(_CELL_HEIGHT, _CELL_WIDTH)))
    ratio = min(_CELL_WIDTH / index.widths[position], _CELL_HEIGHT / index.heights[position])
    size = max(1, round(index.widths[position] * ratio)), max(1, round(index.heights[position] * ratio))
    picture = picture.resize(size, Image.Resampling.BILINEAR)
    labels = index.labels_of(position)
    names = [index.class_names[label] for label in labels]
    colours = [
        _CROWD_COLOUR if crowd else colour_of(label)
        for label, crowd in zip(labels, index.crowd_of(position), strict=True)
    ]
    truth = draw_boxes(picture, index.boxes(position) * ratio, names, colours)
    boxes, scores, labels = predictions.of(position)
    shown = [i for i in np.argsort(scores, kind="stable") if scores[i] >= threshold]
    captions = [f"{index.class_names[labels[i]]} {scores[i]:.2f}" for i in shown]
    found = draw_boxes(picture, boxes[shown] * ratio, captions, [colour_of(labels[i]) for i in shown])
    name = Path(index.name(position)).name
    return _stack([_cell(truth, f"truth: {name}"), _cell(found, f"detected, score {threshold:.2f} or more")], 0)


def _cell(picture: Image.Image, heading: str) -> Image.Image:
    cell = Image.new("RGB", (_CELL_WIDTH, picture.height + _HEADING_HEIGHT), "white")
    draw = ImageDraw.Draw(cell)
    font = font_for(heading, _HEADING_SIZE)
    while len(heading) > 8 and draw.textlength(heading, font=font) > _CELL_WIDTH:
        heading = heading[:-5] + "..."
    draw.text((0, 2), heading, fill="black", font=font)
    cell.paste(picture, ((_CELL_WIDTH - picture.width) // 2, _HEADING_HEIGHT))
    return cell


def _stack(pictures: Sequence[Image.Image], axis: int) -> Image.Image:
    """Pictures beside each other (axis 0) or below each other (axis 1) on white, a gap between them."""
    along = sum(picture.size[axis] + _GAP for picture in pictures) + _GAP
    across = max((picture.size[1 - axis] for picture in pictures), default=1)
    canvas = Image.new("RGB", (along, across) if axis == 0 else (across, along), "white")
    place = _GAP
    for picture in pictures:
        canvas.paste(picture, (place, 0) if axis == 0 else (0, place))
        place += picture.size[axis] + _GAP
    return canvas
