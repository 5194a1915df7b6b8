from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from detrofit.evaluation.picture_grid import save_picture_grid, spread_indices
from detrofit.evaluation.predictions import Predictions
from tests.evaluation.scenes import make_index

BOX = [100, 100, 400, 300]


def test_pairs_of_pictures_are_written(tmp_path: Path) -> None:
    index = dataclasses.replace(make_index([[(BOX, 0)], [(BOX, 1)], []]), root=str(tmp_path))
    predictions = Predictions()
    for position in range(3):
        Image.new("RGB", (640, 480), "gray").save(index.path(position))
        predictions.add(position, np.array([BOX, BOX]), np.array([0.9, 0.1]), np.array([0, 1]))
    save_picture_grid(index, predictions, [0, 1, 2], tmp_path / "grid.png", threshold=0.5)
    with Image.open(tmp_path / "grid.png") as grid:
        pixels = np.asarray(grid.convert("RGB"))
    colourful = (pixels.max(axis=2).astype(int) - pixels.min(axis=2)) > 60
    assert colourful[:, : pixels.shape[1] // 2].any() and colourful[:, pixels.shape[1] // 2 :].any()


def test_shown_pictures_are_spread_over_those_with_objects() -> None:
    assert spread_indices(make_index([[], [(BOX, 0)], [], [(BOX, 0)], [(BOX, 0)]]), 2) == [1, 4]
    assert spread_indices(make_index([[], []]), 5) == [0, 1]
