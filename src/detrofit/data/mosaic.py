"""Pictures made of several: mosaic (arXiv:2004.10934) and mixup (arXiv:1710.09412), for detection."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from detrofit.data.geometry import SMALLEST_SIDE
from detrofit.data.images import LabelledPicture, clip_boxes


def four_pictures(pictures: Sequence[LabelledPicture], centre: tuple[float, float]) -> LabelledPicture:
    """Four pictures of one size around a point of a canvas twice as high and wide.

    `centre` is (down, across), 0.5..1.5 in sides of a picture. What a picture leaves of the canvas stays black, what
    reaches beyond is cut, and boxes with it; boxes whose centre is cut off are dropped.
    """
    height, width = pictures[0].height, pictures[0].width
    canvas = torch.zeros((3, 2 * height, 2 * width), dtype=torch.uint8)
    middle = (round(centre[0] * height), round(centre[1] * width))
    boxes, labels = [], []
    for number, picture in enumerate(pictures):
        top, left = middle[0] - height * (number < 2), middle[1] - width * (number % 2 == 0)
        _paste(canvas, picture, top, left)
        moved, kept = _inside_canvas(picture.boxes + np.array([left, top] * 2, dtype=np.float32), canvas.shape[-2:])
        boxes.append(moved)
        labels.append(picture.labels[kept])
    return LabelledPicture(canvas, np.concatenate(boxes), np.concatenate(labels))


def _paste(canvas: torch.Tensor, picture: LabelledPicture, top: int, left: int) -> None:
    first_row, first_column = max(-top, 0), max(-left, 0)
    seen = picture.pixels[:, first_row : canvas.shape[-2] - top, first_column : canvas.shape[-1] - left]
    top, left = max(top, 0), max(left, 0)
    canvas[:, top : top + seen.shape[-2], left : left + seen.shape[-1]] = seen


def _inside_canvas(boxes: np.ndarray, extent: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    height, width = extent
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    clipped = clip_boxes(boxes, height, width)
    large_enough = (clipped[:, 2:] - clipped[:, :2] >= SMALLEST_SIDE).all(1)
    kept = ((centres > 0) & (centres < (width, height))).all(1) & large_enough
    return clipped[kept], kept


def mixed(first: LabelledPicture, second: LabelledPicture, share: float) -> LabelledPicture:
    """Both pictures, of one size, laid over each other with the first's share of the light, 0..1, and all boxes."""
    pixels = torch.lerp(second.pixels.float(), first.pixels.float(), share).round_().to(torch.uint8)
    boxes = np.concatenate([first.boxes, second.boxes])
    return LabelledPicture(pixels, boxes, np.concatenate([first.labels, second.labels]))
