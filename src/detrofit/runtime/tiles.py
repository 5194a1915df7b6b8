"""A picture seen by a backend in tiles."""

from __future__ import annotations

import numpy as np

from detrofit.runtime.backends import Backend
from detrofit.runtime.preprocess import to_batch
from detrofit.tiling import TileDetections, Tiling, merge_tiles

BATCH = 8  # tiles in memory at once, however many the picture has


def detect_in_tiles(backend: Backend, picture: np.ndarray, tiling: Tiling, threshold: float) -> TileDetections:
    """What is in a decoded picture, uint8 `[H, W, 3]`, by tiles and the whole: in its pixels, best first.

    Detections below `threshold` are left out before tiles are merged.
    """
    height, width = picture.shape[:2]
    windows = tiling.windows(height, width)
    parts = [picture[top:bottom, left:right] for left, top, right, bottom in windows]  # views, not copies
    parts.append(picture)
    found: list[TileDetections] = []
    for start in range(0, len(parts), BATCH):
        chosen = parts[start : start + BATCH]
        answers = backend(to_batch(chosen, backend.input_size))
        for part, boxes, scores, labels in zip(chosen, *answers):
            sides = np.array([part.shape[1], part.shape[0]] * 2, np.float32)
            sure = scores >= threshold
            found.append(TileDetections((boxes[sure] * sides).clip(0, sides), scores[sure], labels[sure]))
    return merge_tiles(windows, found[:-1], found[-1], (height, width))
