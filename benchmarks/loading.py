"""What reading and augmenting pictures costs: for each picture in one process, and as a share of training steps.

    python benchmarks/loading.py [--data DATA] [--model rtdetr-n] [--imgsz 320] [--batch 8] [--workers 2]
        [--steps 12] [--repeats 5]

The share compares steps fed by a loader with steps on the same batches held in memory, in turn, in one process: the
workers take processor time from the training itself, so timing the loader alone would not show it. Without `--data`,
the data set of the demonstration is drawn.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

import detrofit
from detrofit.data.demo import draw_demo_dataset
from detrofit.data.images import read_image
from detrofit.data.index import DetectionIndex
from detrofit.data.loader import Batch, TrainingLoader
from detrofit.data.open import open_dataset
from detrofit.training.devices import Devices

WARM_UP_STEPS = 3


def cost_of_each_picture(index: DetectionIndex, size: tuple[int, int], repeats: int) -> None:
    """Print milliseconds a picture in one process on one thread: decoded only, resized and flipped, augmented."""
    torch.set_num_threads(1)
    loader = TrainingLoader(index, size, 1, seed=0, workers=0)
    jobs = {
        "decoded in full": lambda: [read_image(index.path(image)) for image in range(len(index))],
        "decoded, resized, flipped": lambda: list(loader.batches(0, strong=False)),
        "decoded, augmented, resized": lambda: list(loader.batches(0)),
    }
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats + 1):  # the first time fills the file cache
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            times[name].append((time.perf_counter() - start) / len(index))
    for name, found in times.items():
        print(f"{name:30} {1000 * statistics.median(found[1:]):6.1f} ms a picture")


class Training:
    """Training steps of a model, without schedule, average or evaluation."""

    def __init__(self, name: str, num_classes: int) -> None:
        self.devices = Devices()
        self.model: nn.Module = self.devices.place(detrofit.build(name, {}, num_classes=num_classes)).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, weight_decay=1e-4)

    def seconds(self, batches: Iterable[Batch]) -> list[float]:
        """Time of each step, with the time that it waited for its batch."""
        times = []
        start = time.perf_counter()
        for batch in batches:
            self._step(batch)
            times.append(time.perf_counter() - start)
            start = time.perf_counter()
        return times

    def _step(self, batch: Batch) -> None:
        images, targets = self.devices.images(batch[0]), self.devices.targets(batch[1])
        with self.devices.autocast():
            output = self.model(images, targets)
        losses = self.model.criterion(output, targets, tuple(images.shape[-2:]))  # type: ignore[operator]
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 0.1)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.devices.device.type == "cuda":
            torch.cuda.synchronize()


def share_of_a_step(index: DetectionIndex, size: tuple[int, int], arguments: argparse.Namespace) -> None:
    """Print the mean step of each turn, fed from memory and by the loader, and the loader's share."""
    training = Training(arguments.model, len(index.class_names))
    loader = TrainingLoader(index, size, arguments.batch, seed=0, workers=arguments.workers)
    held = list(itertools.islice(loader.batches(0), arguments.steps))
    training.seconds(held[:WARM_UP_STEPS])
    memory, loaded = [], []
    for _ in range(arguments.repeats):
        memory.append(statistics.mean(training.seconds(held)))
        loaded.append(statistics.mean(training.seconds(itertools.islice(loader.batches(0), arguments.steps))))
        print(f"a step {1000 * memory[-1]:.0f} ms from memory, {1000 * loaded[-1]:.0f} ms from the loader")
    share = min(loaded) / min(memory) - 1
    print(
        f"{arguments.model} at {size[0]} x {size[1]}, batch {arguments.batch}, {training.devices.precision}, "
        f"{arguments.workers} workers, {torch.get_num_threads()} threads: a step of {1000 * min(memory):.0f} ms "
        f"costs {100 * share:.1f} % more with loading (fastest turn of each)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a data set; default: the demonstration's")
    parser.add_argument("--model", default="rtdetr-n")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=12, help="in each turn")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    size = (arguments.imgsz, arguments.imgsz)
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.data or draw_demo_dataset(Path(folder) / "demo")
        index = open_dataset(path).split("train")
        print(f"{len(index)} pictures of up to {index.widths.max()} x {index.heights.max()}")
        cost_of_each_picture(index, size, arguments.repeats)
        torch.set_num_threads(threads)
        share_of_a_step(index, size, arguments)


if __name__ == "__main__":
    main()
