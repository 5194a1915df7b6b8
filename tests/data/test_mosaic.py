from __future__ import annotations

import numpy as np
import torch

from detrofit.data.images import LabelledPicture
from detrofit.data.mosaic import four_pictures, mixed


def plain(grey: int, label: int, box: tuple[float, ...] = (2, 2, 8, 6)) -> LabelledPicture:
    pixels = torch.full((3, 10, 20), grey, dtype=torch.uint8)
    return LabelledPicture(pixels, np.array([box], dtype=np.float32), np.array([label]))


def test_a_mosaic_puts_each_picture_in_its_corner_with_its_boxes() -> None:
    mosaic = four_pictures([plain(10 * (each + 1), each) for each in range(4)], centre=(1.0, 1.0))
    assert mosaic.pixels.shape == (3, 20, 40)
    assert [int(mosaic.pixels[0, row, column]) for row in (0, 19) for column in (0, 39)] == [10, 20, 30, 40]
    assert mosaic.boxes.tolist() == [[2, 2, 8, 6], [22, 2, 28, 6], [2, 12, 8, 16], [22, 12, 28, 16]]
    assert mosaic.labels.tolist() == [0, 1, 2, 3]


def test_what_a_mosaic_cuts_off_loses_its_box() -> None:
    pictures = [plain(50, each, box=(0, 0, 20, 10) if each else (1, 1, 9, 4)) for each in range(4)]
    mosaic = four_pictures(pictures, centre=(0.6, 0.6))  # the first picture shows its lower right part only
    assert mosaic.labels.tolist() == [1, 2, 3]
    assert mosaic.boxes.tolist() == [[12, 0, 32, 6], [0, 6, 12, 16], [12, 6, 32, 16]]
    assert (mosaic.pixels[:, :16, :32] == 50).all() and (mosaic.pixels[:, 16:] == 0).all()


def test_mixup_blends_the_light_and_keeps_all_boxes() -> None:
    blended = mixed(plain(100, 1), plain(200, 2, box=(0, 0, 4, 4)), share=0.25)
    assert (blended.pixels == 175).all() and blended.pixels.dtype == torch.uint8
    assert blended.labels.tolist() == [1, 2] and blended.boxes.shape == (2, 4)
