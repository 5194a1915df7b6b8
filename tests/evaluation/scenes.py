"""Random splits and predictions for them, as one of few mistakes of a detector each."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from detrofit.data.index import DetectionIndex, pack_names
from detrofit.evaluation.predictions import Predictions


def make_index(
    images: Sequence[Sequence[tuple[Sequence[float], int]]],
    class_names: tuple[str, ...] = ("cat", "dog", "bird"),
    category_ids: tuple[int, ...] = (90, 3, 7),
    crowd: Collection[int] = (),
    size: tuple[int, int] = (480, 640),
) -> DetectionIndex:
    """An index of pictures given as lists of (xyxy box, label); `crowd` holds positions among all boxes."""
    boxes = np.array([box for image in images for box, _ in image], np.float32).reshape(-1, 4)
    name_bytes, name_offsets = pack_names(f"picture {number}.jpg" for number in range(len(images)))
    return DetectionIndex(
        split="test",
        class_names=class_names,
        category_ids=category_ids,
        root="/nowhere",
        name_bytes=name_bytes,
        name_offsets=name_offsets,
        image_ids=np.array([1000 - 7 * number for number in range(len(images))], np.int64),
        widths=np.full(len(images), size[1], np.int32),
        heights=np.full(len(images), size[0], np.int32),
        box_offsets=np.cumsum([0, *(len(image) for image in images)]).astype(np.int64),
        boxes_xyxy=boxes,
        labels=np.array([label for image in images for _, label in image], np.int32),
        crowd=np.isin(np.arange(len(boxes)), list(crowd)),
        areas=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
    )


def random_scene(seed: int, num_images: int = 8, max_objects: int = 12) -> tuple[DetectionIndex, Predictions]:
    """Pictures (some empty, some objects crowd) and predictions: found, shifted, mistaken, doubled and made up."""
    generator = np.random.default_rng(seed)
    images = []
    for _ in range(num_images):
        count = int(generator.integers(0, max_objects + 1)) * int(generator.random() > 0.2)
        corners = generator.uniform(0, 400, (count, 2))
        boxes = np.concatenate([corners, corners + np.exp(generator.uniform(1.5, 5.4, (count, 2)))], axis=1)
        images.append([(box.tolist(), int(generator.integers(3))) for box in boxes])
    num_boxes = sum(map(len, images))
    index = make_index(images, crowd=set(np.flatnonzero(generator.random(num_boxes) < 0.1).tolist()))
    predictions = Predictions()
    for position, image in enumerate(images):
        predictions.add(position, *_detections(generator, image))
    return index, predictions


def _detections(
    generator: np.random.Generator, image: list[tuple[list[float], int]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    boxes, labels = [], []
    for box, label in image * int(generator.integers(1, 4)):
        sides = np.tile([box[2] - box[0], box[3] - box[1]], 2)
        boxes.append(np.array(box) + generator.normal(0, 0.1, 4) * sides)
        labels.append(label if generator.random() < 0.8 else int(generator.integers(3)))
    for _ in range(int(generator.integers(0, 6))):
        corner = generator.uniform(0, 300, 2)
        boxes.append(np.concatenate([corner, corner + generator.uniform(5, 150, 2)]))
        labels.append(int(generator.integers(3)))
    stacked = np.array(boxes, np.float64).reshape(-1, 4)
    # One decimal, so that many scores are equal and the order of ties matters.
    scores = generator.random(len(stacked)).round(int(generator.integers(1, 8)))
    return (
        np.concatenate([stacked[:, :2], np.maximum(stacked[:, 2:], stacked[:, :2] + 1)], axis=1),
        scores,
        np.array(labels, np.int64),
    )
