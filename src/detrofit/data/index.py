"""One split of a data set as plain arrays: what loaders, evaluation and checks read."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np


def pack_names(names: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    """File names as one uint8 array and int64 `[N+1]` offsets into it: no Python object for each picture."""
    encoded = [os.fsencode(name) for name in names]
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(name) for name in encoded], out=offsets[1:])
    return np.frombuffer(b"".join(encoded), np.uint8), offsets


def unpack_names(name_bytes: np.ndarray, name_offsets: np.ndarray) -> list[str]:
    """The inverse of `pack_names`."""
    blob = name_bytes.tobytes()
    offsets = name_offsets.tolist()
    return [os.fsdecode(blob[start:end]) for start, end in itertools.pairwise(offsets)]


@dataclass(frozen=True, eq=False)
class DetectionIndex:
    """Pictures and boxes of one split, N pictures and M boxes.

    The arrays are read-only, shared by forked workers and quickly unpickled by spawned ones; copy before changing.
    Pictures without boxes are background and stay. Boxes that cannot be used are already left out (`left_out`).
    """

    split: str
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]  # original ids; the position is the contiguous id used in `labels`
    root: str
    name_bytes: np.ndarray  # uint8, the file names relative to `root`, one after another
    name_offsets: np.ndarray  # int64 [N+1]
    image_ids: np.ndarray  # int64 [N], original ids (1..N for forms that have none)
    widths: np.ndarray  # int32 [N], pixels, after the EXIF rotation
    heights: np.ndarray  # int32 [N]
    box_offsets: np.ndarray  # int64 [N+1]
    boxes_xyxy: np.ndarray  # float32 [M,4], pixels of the original picture, clipped to it
    labels: np.ndarray  # int32 [M], contiguous
    crowd: np.ndarray  # bool [M], COCO's iscrowd or VOC's difficult: neither trained on nor counted in evaluation
    areas: np.ndarray  # float32 [M], square pixels; COCO's own area where the file gives it
    left_out: dict[str, int] = field(default_factory=dict)  # finding code -> how many boxes or pictures

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, np.ndarray):
                value.setflags(write=False)

    def __len__(self) -> int:
        return len(self.image_ids)

    def name(self, position: int) -> str:
        """The file name of a picture, relative to `root`."""
        start, end = self.name_offsets[position], self.name_offsets[position + 1]
        return os.fsdecode(self.name_bytes[start:end].tobytes())

    def names(self) -> list[str]:
        """All file names, relative to `root`."""
        return unpack_names(self.name_bytes, self.name_offsets)

    def path(self, position: int) -> Path:
        """Where a picture's file is."""
        return Path(self.root, self.name(position))

    def boxes(self, position: int) -> np.ndarray:
        """A picture's boxes, float32 `[n,4]` xyxy in pixels of the original (a read-only view)."""
        return self.boxes_xyxy[self.box_offsets[position] : self.box_offsets[position + 1]]

    def labels_of(self, position: int) -> np.ndarray:
        """A picture's contiguous class ids, int32 `[n]` (a read-only view)."""
        return self.labels[self.box_offsets[position] : self.box_offsets[position + 1]]

    def crowd_of(self, position: int) -> np.ndarray:
        """Which of a picture's boxes are neither trained on nor counted in evaluation, bool `[n]`."""
        return self.crowd[self.box_offsets[position] : self.box_offsets[position + 1]]

    def areas_of(self, position: int) -> np.ndarray:
        """A picture's object areas in square pixels, float32 `[n]`."""
        return self.areas[self.box_offsets[position] : self.box_offsets[position + 1]]

    def hashed(self) -> hashlib._Hash:
        """SHA-256 of classes, names, sizes and boxes, to which a caller may add; `root` does not count."""
        digest = hashlib.sha256(repr((self.class_names, self.category_ids)).encode())
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, np.ndarray):
                digest.update(value.tobytes())
        return digest


def subset(index: DetectionIndex, positions: np.ndarray) -> DetectionIndex:
    """The pictures at `positions` with their boxes, as an index of its own."""
    name_bytes, name_offsets = pack_names(index.name(position) for position in positions.tolist())
    counts = np.diff(index.box_offsets)[positions]
    boxes = np.concatenate(
        [np.zeros(0, np.int64), *(np.arange(*index.box_offsets[position : position + 2]) for position in positions)]
    )
    per_picture = {name: getattr(index, name)[positions] for name in ("image_ids", "widths", "heights")}
    per_box = {name: getattr(index, name)[boxes] for name in ("boxes_xyxy", "labels", "crowd", "areas")}
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return replace(
        index, name_bytes=name_bytes, name_offsets=name_offsets, box_offsets=offsets, **per_picture, **per_box
    )
