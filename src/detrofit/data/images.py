"""A picture of a data set with its boxes, as the transforms take it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from detrofit.data.index import DetectionIndex
from detrofit.errors import DetrofitError
from detrofit.pictures import PictureSource, decode_picture

DRAFT_SCALES = (1, 2, 4, 8)


@dataclass(frozen=True)
class LabelledPicture:
    """Pixels uint8 `[3, H, W]`; boxes float32 `[n, 4]` xyxy in pixels of this picture; labels int64 `[n]`."""

    pixels: Tensor
    boxes: np.ndarray
    labels: np.ndarray

    @property
    def height(self) -> int:
        return self.pixels.shape[-2]

    @property
    def width(self) -> int:
        return self.pixels.shape[-1]


def read_image(source: PictureSource, at_least: tuple[int, int] | None = None) -> Tensor:
    """The picture as uint8 `[3, H, W]` in RGB; rules, `at_least` and errors as in `pictures.decode_picture`."""
    return torch.tensor(decode_picture(source, at_least)).permute(2, 0, 1)


def read_labelled(index: DetectionIndex, image: int, at_least: tuple[int, int] | None = None) -> LabelledPicture:
    """Picture number `image` of the index with its boxes, clipped to the picture, without those that mark a crowd.

    Raises DetrofitError, naming the file, if it cannot be read or is not of the size that its labels are for.
    """
    pixels = read_image(index.path(image), at_least)
    height, width = int(index.heights[image]), int(index.widths[image])
    _check_size(index, image, tuple(pixels.shape[-2:]), drafted=at_least is not None)
    single = ~index.crowd_of(image)
    scale = np.array([pixels.shape[-1] / width, pixels.shape[-2] / height] * 2, dtype=np.float32)
    boxes = clip_boxes(index.boxes(image)[single] * scale, pixels.shape[-2], pixels.shape[-1])
    return LabelledPicture(pixels, boxes, index.labels_of(image)[single].astype(np.int64))


def clip_boxes(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """The parts of boxes xyxy `[n, 4]` that lie inside a picture of that size."""
    return boxes.clip(0, np.array([width, height, width, height], dtype=np.float32)).astype(np.float32)


def _check_size(index: DetectionIndex, image: int, decoded: tuple[int, ...], drafted: bool) -> None:
    height, width = int(index.heights[image]), int(index.widths[image])
    scales = DRAFT_SCALES if drafted else (1,)
    if decoded not in [(-(-height // scale), -(-width // scale)) for scale in scales]:
        true_height, true_width = decode_picture(index.path(image)).shape[:2]
        raise DetrofitError(
            f"{index.path(image)} is {true_width} x {true_height} pixels, but its labels are for {width} x {height}; "
            "correct one of them (detrofit data check lists all such pictures)"
        )
