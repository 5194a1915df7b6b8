"""D-RISE: which pixels a detection needs, by hiding parts of the picture at random (arXiv:2006.03204)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from detrofit.errors import DetrofitError
from detrofit.overlap import box_iou

Detect = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]

CELLS = 16  # of a mask along each side, as published
PROBABILITY = 0.5  # of a cell to stay visible, as published


def d_rise(
    detect: Detect,
    picture: np.ndarray,
    boxes_xyxy: np.ndarray,
    labels: np.ndarray,
    *,
    masks: int = 500,
    cells: int = CELLS,
    seed: int = 0,
    batch: int = 8,
    advance: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """How much each pixel matters to each detection, float32 `[n,H,W]`, 0 at the least and 1 at the most.

    The picture is shown under random masks; a pixel matters as much as masks that leave it visible keep a detection
    like the target, in the mean over those masks: of its class, at its place (the largest IoU times score). Any model
    that finds boxes will do. D-RISE also compares the probabilities of all classes; exported models do not tell them,
    so that the score of the target's class stands for them.

    Args:
        detect: a backend, called with pictures uint8 `[B,H,W,3]`; boxes xyxy in 0..1, scores, labels.
        picture: uint8 `[H,W,3]`.
        boxes_xyxy: `[n,4]` in 0..1 of the picture; labels: int `[n]`.
        masks: how many; a few hundred show the place, a few thousand the shape.
        advance: is told how many masks are done.
    """
    if masks < 1:
        raise DetrofitError(f"{masks} masks show nothing; give 1 or more")
    height, width = picture.shape[:2]
    generator = np.random.default_rng(seed)
    weighted = np.zeros((len(boxes_xyxy), height, width))
    visible = np.zeros((height, width))
    for start in range(0, masks, batch):
        shown = np.stack([draw_mask(generator, (height, width), cells) for _ in range(min(batch, masks - start))])
        boxes, scores, found = detect(np.rint(picture * shown[..., None]).astype(np.uint8))
        for mask, *answer in zip(shown, boxes, scores, found):
            weighted += _likeness(boxes_xyxy, labels, *answer)[:, None, None] * mask
            visible += mask
        advance(len(shown))
    return _to_unit(weighted / np.maximum(visible, 1e-9))


def draw_mask(generator: np.random.Generator, size: tuple[int, int], cells: int) -> np.ndarray:
    """A mask `[H,W]` in 0..1: a coarse grid of visible and hidden cells, enlarged smoothly and shifted at random."""
    height, width = size
    coarse = (generator.random((cells, cells)) < PROBABILITY).astype(np.float32)
    cell = -(-height // cells), -(-width // cells)
    large = ((cells + 1) * cell[1], (cells + 1) * cell[0])
    smooth = np.asarray(Image.fromarray(coarse).resize(large, Image.Resampling.BILINEAR))
    top, left = generator.integers(0, cell[0]), generator.integers(0, cell[1])
    return smooth[top : top + height, left : left + width]


def _likeness(
    targets: np.ndarray, labels: np.ndarray, boxes: np.ndarray, scores: np.ndarray, found: np.ndarray
) -> np.ndarray:
    """The largest IoU times score `[n]` of detections of each target's class."""
    alike = box_iou(targets[:, None], boxes[None]) * scores[None] * (labels[:, None] == found[None])
    return alike.max(1, initial=0)


def _to_unit(maps: np.ndarray) -> np.ndarray:
    """Maps `[n,H,W]` stretched to 0..1 each; a flat one is 0."""
    low = maps.min((1, 2), keepdims=True)
    extent = maps.max((1, 2), keepdims=True) - low
    return np.where(extent > 1e-12, (maps - low) / np.maximum(extent, 1e-12), 0.0).astype(np.float32)
