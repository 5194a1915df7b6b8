"""Time and memory of opening a COCO JSON as large as COCO's own: first, from the cache, and in each worker.

    python benchmarks/data_index.py [--images 118000] [--boxes 860000] [--workers 2]

The JSON is generated from a seed. A worker's memory is what no other process shares with it (Linux's private pages)
after it has read every box, less that of a worker which was never given the index.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from detrofit.data.index import DetectionIndex
from detrofit.data.open import open_dataset

CLASSES = 80
LIMITS = {"first": 15.0, "cached": 2.0, "worker": 100.0}


def write_coco(path: Path, images: int, boxes: int, seed: int = 0) -> None:
    """A COCO JSON of random boxes in 640x480 pictures (which do not exist)."""
    random = np.random.default_rng(seed)
    corner = random.uniform(0, 400, (boxes, 2)).round(2)
    side = random.uniform(1, 80, (boxes, 2)).round(2)
    owner = np.sort(random.integers(1, images + 1, boxes))
    category = random.integers(1, CLASSES + 1, boxes)
    rows = np.concatenate([corner, side], axis=1).tolist()
    document = {
        "images": [
            {"id": number, "file_name": f"{number:012d}.jpg", "width": 640, "height": 480, "license": 1}
            for number in range(1, images + 1)
        ],
        "categories": [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": label,
                "iscrowd": 0,
                "bbox": row,
                "area": round(row[2] * row[3], 2),
            }
            for number, (image, label, row) in enumerate(zip(owner.tolist(), category.tolist(), rows, strict=True), 1)
        ],
    }
    path.write_text(json.dumps(document))


def private_megabytes() -> float:
    """Memory that this process alone holds, in MB."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private")) / 1024


def worker(index: DetectionIndex | None, read: bool, answer: Connection) -> None:
    """Read every box as a loader would, then report this process's private memory."""
    if index is not None and read:
        sum(float(index.boxes(position).sum()) + len(index.name(position)) for position in range(len(index)))
    answer.send(private_megabytes())
    answer.close()


def worker_cost(index: DetectionIndex, method: str, workers: int) -> float:
    """MB that the index adds to the largest of several workers started by `method`."""
    context: Any = multiprocessing.get_context(method)

    def measure(given: DetectionIndex | None, read: bool) -> float:
        pipes = [context.Pipe(duplex=False) for _ in range(workers)]
        processes = [context.Process(target=worker, args=(given, read, send)) for _, send in pipes]
        for process in processes:
            process.start()
        found = [receive.recv() for receive, _ in pipes]
        for process in processes:
            process.join()
        return max(found)

    return measure(index, True) - measure(None, False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=118_000)
    parser.add_argument("--boxes", type=int, default=860_000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DETROFIT_CACHE"] = str(Path(folder, "cache"))
        path = Path(folder, "instances_train.json")
        write_coco(path, options.images, options.boxes)
        print(f"{options.images:,} pictures, {options.boxes:,} boxes, JSON of {path.stat().st_size / 1e6:.0f} MB")
        results: dict[str, float] = {}
        for name in ("first", "cached"):
            start = time.perf_counter()
            index = open_dataset(path).split("train")
            results[name] = time.perf_counter() - start
            print(f"{name:8} {results[name]:6.2f} s   (at most {LIMITS[name]:.0f} s)")
    if not Path("/proc/self/smaps_rollup").exists():
        print("memory is measured on Linux only")
        return
    for method in ("fork", "spawn"):
        cost = worker_cost(index, method, options.workers)
        print(f"{method:8} {cost:6.1f} MB a worker   (at most {LIMITS['worker']:.0f} MB)")


if __name__ == "__main__":
    main()
