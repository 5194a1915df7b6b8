"""From a decoded picture to what a network takes, the same for every backend and equal to what training does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image


def resize_picture(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 `[H, W, 3]` stretched to `size` (height, width), bilinear, averaging over all pixels when it shrinks."""
    height, width = size
    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))


def to_batch(pictures: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """uint8 pictures `[H, W, 3]` of any sizes as what backends take: one uint8 `[B, height, width, 3]`, to be read
    only."""
    resized = [resize_picture(picture, size) for picture in pictures]
    return resized[0][None] if len(resized) == 1 else np.stack(resized)  # one is not copied: that takes a millisecond


def to_images(batch: np.ndarray) -> np.ndarray:
    """uint8 `[B, H, W, 3]` as what networks take: float32 `[B, 3, H, W]` in 0..1."""
    images = np.empty((len(batch), 3, *batch.shape[1:3]), np.float32)
    return np.divide(batch.transpose(0, 3, 1, 2), np.float32(255), out=images)
