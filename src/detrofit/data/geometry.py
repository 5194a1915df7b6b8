"""Zoom-out and IoU crop as the choice of a view: the rectangle of the picture's plane that the model will see.

Both are from SSD (arXiv:1512.02325). Choosing the rectangle first and drawing its pixels once, at the size of the
model, gives the same pictures as padding, cropping and resizing in turn, without the memory traffic between them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from detrofit.data.images import LabelledPicture, clip_boxes

LARGEST_ZOOM_OUT = 4.0  # sides of the plane, in sides of the picture
CROP_SIDES = (0.3, 1.0)  # sides of the crop, in sides of the view
CROP_RATIOS = (0.5, 2.0)  # width over height of the crop, in pixels
CROP_OVERLAPS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)  # least IoU of the crop with one box; 1 means no crop
CROP_TRIALS = 40
SMALLEST_SIDE = 1.0  # of a box that is kept, in pixels before the resize


class View(NamedTuple):
    """A rectangle in pixels of the picture's plane; it may reach beyond the picture."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    def within(self, height: int, width: int) -> View:
        """The part inside a picture of that size."""
        return View(max(self.left, 0), max(self.top, 0), min(self.right, width), min(self.bottom, height))


def whole(picture: LabelledPicture) -> View:
    """The view of exactly the picture."""
    return View(0, 0, picture.width, picture.height)


def zoom_out(generator: np.random.Generator, view: View) -> View:
    """A view with sides 1 to 4 times as long, the given one at a random place in it."""
    zoom, across, down = generator.random(3)
    zoom = 1 + zoom * (LARGEST_ZOOM_OUT - 1)
    width, height = int(view.width * zoom), int(view.height * zoom)
    left = view.left - int((width - view.width) * across)
    top = view.top - int((height - view.height) * down)
    return View(left, top, left + width, top + height)


def iou_crop(generator: np.random.Generator, view: View, boxes: np.ndarray) -> View:
    """A random part of the view that holds the centre of a box and overlaps such a box by a random least IoU.

    `boxes` are xyxy `[n, 4]` in pixels of the picture; without boxes the view is returned as it is.
    """
    while len(boxes):
        overlap = CROP_OVERLAPS[generator.integers(len(CROP_OVERLAPS))]
        if overlap >= 1:
            break
        crops = _candidates(generator, view)
        accepted = _proportioned(crops) & (_best_overlap(crops, boxes) >= overlap)
        if accepted.any():
            return View(*(int(side) for side in crops[accepted.argmax()]))
    return view


def _candidates(generator: np.random.Generator, view: View) -> np.ndarray:
    share = generator.random((CROP_TRIALS, 4))
    sides = CROP_SIDES[0] + share[:, :2] * (CROP_SIDES[1] - CROP_SIDES[0])
    room = np.array([view.width, view.height])
    size = (sides * room).astype(np.int64)
    start = ((room - size) * share[:, 2:]).astype(np.int64) + np.array([view.left, view.top])
    return np.concatenate([start, start + size], axis=1)


def _proportioned(crops: np.ndarray) -> np.ndarray:
    width, height = crops[:, 2] - crops[:, 0], crops[:, 3] - crops[:, 1]
    ratio = width / np.maximum(height, 1)
    return (width > 0) & (height > 0) & (ratio >= CROP_RATIOS[0]) & (ratio <= CROP_RATIOS[1])


def _best_overlap(crops: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The largest IoU of each crop with a box whose centre it holds; -1 where it holds none."""
    crop, box = crops[:, None].astype(np.float64), boxes[None].astype(np.float64)
    shared = np.minimum(crop[..., 2:], box[..., 2:]) - np.maximum(crop[..., :2], box[..., :2])
    intersection = shared.clip(min=0).prod(-1)
    union = (crop[..., 2:] - crop[..., :2]).prod(-1) + (box[..., 2:] - box[..., :2]).prod(-1) - intersection
    return np.where(_centres_inside(crop, box), intersection / union, -1).max(-1)


def _centres_inside(area: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    return ((area[..., :2] < centre) & (centre < area[..., 2:])).all(-1)


def render(
    picture: LabelledPicture,
    view: View,
    size: tuple[int, int],
    fill: int = 0,
    recolour: Callable[[Tensor], Tensor] | None = None,
) -> LabelledPicture:
    """What the view shows, resized to `size` (height, width) without keeping the ratio, `fill` beyond the picture.

    Boxes whose centre lies outside are dropped, the others clipped, and dropped if a side is then below one pixel.
    `recolour` changes the visible pixels, not the fill.
    """
    source = view.within(picture.height, picture.width)
    target = _place(source, view, size)
    seen = picture.pixels[:, source.top : source.bottom, source.left : source.right]
    seen = _resized(seen, (target.height, target.width), recolour)
    boxes, labels = _visible_boxes(picture, source)
    boxes = clip_boxes(_moved(boxes, source, target), *size)
    if seen.shape[-2:] == size:
        return LabelledPicture(seen.contiguous(), boxes, labels)
    pixels = torch.full((3, *size), fill, dtype=torch.uint8)
    pixels[:, target.top : target.bottom, target.left : target.right] = seen
    return LabelledPicture(pixels, boxes, labels)


def _resized(pixels: Tensor, size: tuple[int, int], recolour: Callable[[Tensor], Tensor] | None) -> Tensor:
    grows = size[0] * size[1] > pixels.shape[-2] * pixels.shape[-1]
    if recolour and grows:  # colours are the dearest step, so they are changed where there are fewer pixels
        pixels = recolour(pixels)
    resized = functional.resize(pixels, list(size), antialias=True)
    return recolour(resized) if recolour and not grows else resized


def _place(source: View, view: View, size: tuple[int, int]) -> View:
    """Where the visible part lands, in whole pixels of the result; boxes follow it, so that both agree exactly."""
    height, width = size
    left = min(round((source.left - view.left) * width / view.width), width - 1)
    top = min(round((source.top - view.top) * height / view.height), height - 1)
    right = max(round((source.right - view.left) * width / view.width), left + 1)
    bottom = max(round((source.bottom - view.top) * height / view.height), top + 1)
    return View(left, top, right, bottom)


def _visible_boxes(picture: LabelledPicture, source: View) -> tuple[np.ndarray, np.ndarray]:
    edges = np.array(source, dtype=np.float32)
    boxes = picture.boxes.clip(np.tile(edges[:2], 2), np.tile(edges[2:], 2))
    kept = _centres_inside(edges, picture.boxes) & (boxes[:, 2:] - boxes[:, :2] >= SMALLEST_SIDE).all(1)
    return boxes[kept], picture.labels[kept]


def _moved(boxes: np.ndarray, source: View, target: View) -> np.ndarray:
    scale = np.array([target.width / source.width, target.height / source.height] * 2, dtype=np.float32)
    moved = (boxes - np.array(source[:2] * 2, dtype=np.float32)) * scale
    return moved + np.array(target[:2] * 2, dtype=np.float32)


def flip_horizontally(picture: LabelledPicture) -> LabelledPicture:
    """The picture and its boxes mirrored, left for right."""
    boxes = picture.boxes[:, [2, 1, 0, 3]] * (-1, 1, -1, 1) + (picture.width, 0, picture.width, 0)
    return _flipped(picture, boxes, dimension=-1)


def flip_vertically(picture: LabelledPicture) -> LabelledPicture:
    """The picture and its boxes mirrored, top for bottom."""
    boxes = picture.boxes[:, [0, 3, 2, 1]] * (1, -1, 1, -1) + (0, picture.height, 0, picture.height)
    return _flipped(picture, boxes, dimension=-2)


def _flipped(picture: LabelledPicture, boxes: np.ndarray, dimension: int) -> LabelledPicture:
    boxes = clip_boxes(boxes, picture.height, picture.width)
    return LabelledPicture(picture.pixels.flip(dimension), boxes, picture.labels)
