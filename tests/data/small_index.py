"""A small data set of drawn scenes on disk and its index."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from detrofit.data.demo_scenes import SHAPES, draw_scene
from detrofit.data.index import DetectionIndex, pack_names


def index_of(
    folder: Path, names: list[str], sizes: list[tuple[int, int]], boxes: list[np.ndarray], labels: list[np.ndarray]
) -> DetectionIndex:
    """An index of the pictures with those (height, width), boxes xyxy in pixels, and labels; nothing is crowd."""
    name_bytes, name_offsets = pack_names(names)
    number = sum(map(len, labels))
    return DetectionIndex(
        split="train",
        class_names=SHAPES,
        category_ids=tuple(range(len(SHAPES))),
        root=str(folder),
        name_bytes=name_bytes,
        name_offsets=name_offsets,
        image_ids=np.arange(1, len(names) + 1),
        widths=np.array([width for _, width in sizes], dtype=np.int32),
        heights=np.array([height for height, _ in sizes], dtype=np.int32),
        box_offsets=np.cumsum([0, *map(len, labels)]),
        boxes_xyxy=np.concatenate([*boxes, np.zeros((0, 4))]).astype(np.float32),
        labels=np.concatenate([*labels, np.zeros(0)]).astype(np.int32),
        crowd=np.zeros(number, dtype=bool),
        areas=np.ones(number, dtype=np.float32),
    )


def drawn_index(folder: Path, number: int, height: int = 90, width: int = 120) -> DetectionIndex:
    """That many scenes saved as JPEG in `folder`, the last one without objects."""
    scenes = [draw_scene(np.random.default_rng(each), height, width) for each in range(number)]
    names = [f"scene {each}.jpg" for each in range(number)]
    for name, scene in zip(names, scenes, strict=True):
        Image.fromarray(scene.picture).save(folder / name)
    boxes = [scene.boxes for scene in scenes[:-1]] + [np.zeros((0, 4))]
    labels = [scene.labels for scene in scenes[:-1]] + [np.zeros(0)]
    return index_of(folder, names, [(height, width)] * number, boxes, labels)
