"""Batches of pictures for training and evaluation, the same whatever the number of workers and processes."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from detrofit.data.images import read_labelled
from detrofit.data.index import DetectionIndex
from detrofit.data.sampler import EpochOrder, evaluation_share, rare_class_factors
from detrofit.data.transforms import PUBLISHED_AUGMENTATION, Augmentation, Recipe, Target, as_target, fitted
from detrofit.errors import DetrofitError
from detrofit.randomness import derive_seed

Batch: TypeAlias = tuple[Tensor, list[Target]]
Sample: TypeAlias = tuple[Tensor, Target]

# JPEGs are decoded at no less than this many times the model's size: an IoU crop enlarges its part of the picture.
DRAFT_MARGIN = 2


class Request(NamedTuple):
    """All that a training picture depends on, next to the seed, so that workers need no state of their own."""

    epoch: int
    image: int
    repetition: int
    strong: bool


class LoadingFailure(NamedTuple):
    """A user's error on its way out of a worker process, as its one line instead of a traceback."""

    message: str


@dataclass(frozen=True)
class TrainingPictures(Dataset):
    """Augmented pictures by request."""

    index: DetectionIndex
    recipe: Recipe
    seed: int

    def __getitem__(self, request: Request) -> Sample | LoadingFailure:
        again = (request.repetition,) if request.repetition else ()
        seed = derive_seed(self.seed, "augment", request.epoch, request.image, *again)
        try:
            with single_threaded():
                picture = self.recipe.picture(request.image, np.random.default_rng(seed), request.strong)
                return picture.pixels, as_target(picture, request.image, _original_size(self.index, request.image))
        except DetrofitError as error:
            return LoadingFailure(str(error))


@dataclass(frozen=True)
class EvaluationPictures(Dataset):
    """Whole pictures, resized, by their position in the index."""

    index: DetectionIndex
    size: tuple[int, int]

    def __getitem__(self, image: int) -> Sample | LoadingFailure:
        try:
            with single_threaded():
                picture = fitted(read_labelled(self.index, image), self.size)
                return picture.pixels, as_target(picture, image, _original_size(self.index, image))
        except DetrofitError as error:
            return LoadingFailure(str(error))


class TrainingLoader:
    """Batches of augmented pictures: uint8 `[B, 3, h, w]` and a target for each.

    `size` is (height, width) for the model, `batch_size` that of all processes together. Workers live from the first
    epoch to the last. `rare_class_threshold`, 0..1, turns on repeat-factor sampling. Iterating raises DetrofitError
    for a picture that cannot be read.
    """

    def __init__(
        self,
        index: DetectionIndex,
        size: tuple[int, int],
        batch_size: int,
        *,
        seed: int,
        augmentation: Augmentation = PUBLISHED_AUGMENTATION,
        workers: int = 2,
        num_replicas: int = 1,
        rank: int = 0,
        rare_class_threshold: float | None = None,
        start_method: str | None = None,
    ) -> None:
        factors = None if rare_class_threshold is None else rare_class_factors(index, rare_class_threshold)
        self.order = EpochOrder(
            len(index),
            batch_size,
            seed,
            num_replicas=num_replicas,
            rank=rank,
            repeat_factors=factors,
        )
        at_least = (DRAFT_MARGIN * size[0], DRAFT_MARGIN * size[1])
        recipe = Recipe(partial(read_labelled, index, at_least=at_least), len(index), size, augmentation)
        self._requests = _Requests(self.order)
        self._loader = data_loader(TrainingPictures(index, recipe, seed), self._requests, workers, start_method)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch, the same for every process."""
        return len(self.order)

    def batches(self, epoch: int, start_step: int = 0, strong: bool = True) -> Iterator[Batch]:
        """The batches of an epoch from number `start_step` on; `strong` off leaves only the flips."""
        self._requests.select(epoch, start_step, strong)
        return delivered(self._loader)


class EvaluationLoader:
    """Batches of whole pictures at `size` (height, width), this process's share; over all processes each once.

    Gives uint8 `[B, 3, h, w]` and a target for each. Raises DetrofitError for a picture that cannot be read.
    """

    def __init__(
        self,
        index: DetectionIndex,
        size: tuple[int, int],
        batch_size: int,
        *,
        workers: int = 2,
        num_replicas: int = 1,
        rank: int = 0,
        start_method: str | None = None,
    ) -> None:
        share = evaluation_share(len(index), num_replicas, rank)
        batches = [list(share[start : start + batch_size]) for start in range(0, len(share), batch_size)]
        self._batches = len(batches)
        self._loader = data_loader(EvaluationPictures(index, size), batches, workers, start_method)

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[Batch]:
        return delivered(self._loader)


class _Requests:
    """The batch sampler of the one DataLoader of a training: what the coming epoch will ask its workers for."""

    def __init__(self, order: EpochOrder) -> None:
        self.order = order
        self.select(epoch=0, start_step=0, strong=True)

    def select(self, epoch: int, start_step: int, strong: bool) -> None:
        self.epoch, self.start_step, self.strong = epoch, start_step, strong

    def __len__(self) -> int:
        return len(self.order) - self.start_step

    def __iter__(self) -> Iterator[list[Request]]:
        for batch in self.order.batches(self.epoch, self.start_step):
            yield [Request(self.epoch, draw.image, draw.repetition, self.strong) for draw in batch]


def data_loader(
    pictures: Dataset[Any], batches: Iterable[Sequence[Any]], workers: int, start_method: str | None
) -> DataLoader[Any]:
    """The loader of this package's batches of requests, whose workers leave interruptions to the main process."""
    return DataLoader(
        pictures,
        batch_sampler=batches,  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=_leave_interruptions_to_the_main_process,
        multiprocessing_context=start_method if workers else None,
    )


def _leave_interruptions_to_the_main_process(worker: int) -> None:
    """Ctrl-C is for the main process, which then stops its workers; they would each print a traceback.

    So is a SIGTERM, which `timeout`, batch systems and launchers send to the whole group: a worker that it ended would
    end the update that is being finished. The main process's own must end a worker: so it does when it exits while a
    loader is still referred to, and waits for it. Who sent it only Linux tells; elsewhere torch's handler stays alone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_the_main_process_says_so, daemon=True).start()


def _end_when_the_main_process_says_so() -> None:
    assert sys.platform == "linux"
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)  # as torch's workers do; another status would be told as a failure


def collate(samples: Sequence[Sample | LoadingFailure]) -> Batch | LoadingFailure:
    """Images uint8 `[B, 3, h, w]` and the list of targets; the first failure instead, if there is one."""
    images, targets = [], []
    for sample in samples:
        if isinstance(sample, LoadingFailure):
            return sample
        images.append(sample[0])
        targets.append(sample[1])
    return torch.stack(images), targets


def delivered(batches: Iterable[Batch | LoadingFailure]) -> Iterator[Batch]:
    """The batches; DetrofitError for the first picture that could not be read."""
    for batch in batches:
        if isinstance(batch, LoadingFailure):
            raise DetrofitError(batch.message)
        yield batch


@contextmanager
def single_threaded() -> Iterator[None]:
    """One torch thread, as in a worker: how sums are split over threads would show in the pictures' last bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _original_size(index: DetectionIndex, image: int) -> tuple[int, int]:
    return int(index.heights[image]), int(index.widths[image])
