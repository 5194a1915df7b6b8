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
    """uint8 pictures `[H, W, 3]` of any sizes as one float32 `[B, 3, height, width]` in 0..1."""
    batch = np.empty((len(pictures), 3, *size), np.float32)
    for place, picture in zip(batch, pictures, strict=True):
        np.divide(resize_picture(picture, size).transpose(2, 0, 1), np.float32(255), out=place)
    return batch
