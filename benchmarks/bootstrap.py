"""Time of a bootstrap over pictures of the AP of a pair of models, on drawn predictions.

    python benchmarks/bootstrap.py [--images 5000] [--classes 80] [--resamples 2000] [--threads 2] [--by-size]

About 7 objects and 100 detections a picture, as a detector gives on COCO. Reports matching and resampling apart.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from detrofit.data.index import DetectionIndex, pack_names
from detrofit.evaluation.predictions import Predictions
from detrofit.evaluation.resampled_ap import bootstrap_weights, resampled_ap
from detrofit.evaluation.size_matching import match_by_size


def draw_index(generator: np.random.Generator, images: int, classes: int, objects: float) -> DetectionIndex:
    """Pictures of 640x480 with a Poisson number of boxes of all sizes."""
    offsets = np.cumsum([0, *generator.poisson(objects, images)])
    corners = generator.uniform(0, 400, (offsets[-1], 2))
    boxes = np.concatenate([corners, corners + np.exp(generator.uniform(2, 5.4, (offsets[-1], 2)))], axis=1)
    name_bytes, name_offsets = pack_names(f"{number}.jpg" for number in range(images))
    return DetectionIndex(
        split="test",
        class_names=tuple(f"class {number}" for number in range(classes)),
        category_ids=tuple(range(1, classes + 1)),
        root="",
        name_bytes=name_bytes,
        name_offsets=name_offsets,
        image_ids=np.arange(images),
        widths=np.full(images, 640, np.int32),
        heights=np.full(images, 480, np.int32),
        box_offsets=offsets.astype(np.int64),
        boxes_xyxy=boxes.astype(np.float32),
        labels=generator.integers(0, classes, offsets[-1]).astype(np.int32),
        crowd=np.zeros(offsets[-1], bool),
        areas=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1).astype(np.float32),
    )


def draw_predictions(generator: np.random.Generator, index: DetectionIndex, detections: int) -> Predictions:
    """Each object found within a few per cent of its size, filled up with false detections of lower scores."""
    predictions = Predictions()
    for position in range(len(index)):
        boxes = index.boxes(position)
        sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        found = boxes + generator.normal(0, 0.05, boxes.shape) * sides
        number = max(0, detections - len(boxes))
        corners = generator.uniform(0, 400, (number, 2))
        false = np.concatenate([corners, corners + np.exp(generator.uniform(2, 5.4, (number, 2)))], axis=1)
        scores = np.concatenate([generator.beta(4, 2, len(boxes)), generator.beta(1, 8, number)])
        labels = np.concatenate([index.labels_of(position), generator.integers(0, len(index.class_names), number)])
        predictions.add(position, np.concatenate([found, false]), scores, labels)
    return predictions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--detections", type=int, default=100)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--by-size", action="store_true", help="also AP of small, medium and large objects")
    arguments = parser.parse_args()
    generator = np.random.default_rng(0)
    index = draw_index(generator, arguments.images, arguments.classes, 7.3)
    pair = [draw_predictions(generator, index, arguments.detections) for _ in range(2)]
    started, started_cpu = time.perf_counter(), time.process_time()
    matches = [match_by_size(index, predictions) for predictions in pair]
    matched, matched_cpu = time.perf_counter(), time.process_time()
    weights = bootstrap_weights(len(index), arguments.resamples, seed=0)
    values = [
        resampled_ap(each, weights, arguments.threads, arguments.by_size).summary(index.class_names)["AP"]
        for each in matches
    ]
    done, done_cpu = time.perf_counter(), time.process_time()
    difference = values[1] - values[0]
    print(
        f"{arguments.images} pictures, {arguments.classes} classes, {arguments.resamples} resamples, a pair of models"
    )
    print(f"matching {matched - started:.1f} s, resampling {done - matched:.1f} s on {arguments.threads} threads")
    print(f"processor time: matching {matched_cpu - started_cpu:.1f} s, resampling {done_cpu - matched_cpu:.1f} s")
    print(f"AP {values[0].mean():.4f}, difference {difference.mean():+.4f} +- {difference.std():.4f}")


if __name__ == "__main__":
    main()
