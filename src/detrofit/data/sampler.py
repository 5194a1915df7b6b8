"""The order in which pictures are seen: a function of the seed and the epoch alone, shared out to the processes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from detrofit.data.index import DetectionIndex
from detrofit.errors import DetrofitError
from detrofit.randomness import derive_seed


class Draw(NamedTuple):
    """A picture's turn: its position in the index, and how often the epoch has drawn it before."""

    image: int
    repetition: int


class EpochOrder:
    """Batches of an epoch for one process out of `num_replicas`.

    `batch_size` is that of all processes together. Which pictures make up a batch depends on the seed and the epoch
    only; process `rank` takes its equal share of each. The last batch is filled up from the epoch's start.
    `repeat_factors` `[num_images]`, at least 1 each, is how often an epoch draws each picture. Raises DetrofitError if
    there is no picture, or a batch cannot be shared out equally.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        seed: int,
        *,
        num_replicas: int = 1,
        rank: int = 0,
        repeat_factors: np.ndarray | None = None,
    ) -> None:
        _check_batches(num_images, batch_size, num_replicas)
        self.batch_size, self.seed = batch_size, seed
        self.num_replicas, self.rank = num_replicas, rank
        self.repeat_factors = np.ones(num_images) if repeat_factors is None else repeat_factors
        self.num_draws = math.ceil(float(self.repeat_factors.sum()) - 1e-9)
        self.steps = -(-self.num_draws // batch_size)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self.steps

    def batches(self, epoch: int, start_step: int = 0) -> Iterator[list[Draw]]:
        """This process's share of each batch of the epoch, from batch number `start_step` on."""
        draws = self._draws(epoch)
        share = self.batch_size // self.num_replicas
        for step in range(start_step, self.steps):
            start = step * self.batch_size + self.rank * share
            yield [Draw(int(image), int(repetition)) for image, repetition in draws[start : start + share]]

    def _draws(self, epoch: int) -> np.ndarray:
        """Every draw (image, repetition) of the epoch in order, as many as its batches hold."""
        generator = np.random.default_rng(derive_seed(self.seed, "order", epoch))
        counts = self._counts(generator)
        images = generator.permutation(np.repeat(np.arange(len(counts)), counts))
        images = np.resize(images, self.steps * self.batch_size)  # filled up from the start
        return np.stack([images, _repetitions(images)], axis=1)

    def _counts(self, generator: np.random.Generator) -> np.ndarray:
        """How often each picture is drawn: its factor on average, and always the same number in all."""
        reached = np.cumsum(self.repeat_factors * (self.num_draws / self.repeat_factors.sum()))
        reached[-1] = self.num_draws
        return np.diff(np.floor(reached + generator.random()).astype(np.int64), prepend=0)


def _check_batches(num_images: int, batch_size: int, num_replicas: int) -> None:
    if num_images == 0:
        raise DetrofitError("there are no pictures to train on; check the data set with detrofit data check")
    if batch_size < 1 or batch_size % num_replicas:
        raise DetrofitError(
            f"a batch of {batch_size} cannot be shared equally by {num_replicas} processes; "
            f"use a multiple of {num_replicas}"
        )


def _repetitions(images: np.ndarray) -> np.ndarray:
    """For each position, how often the same picture stands before it."""
    order = np.argsort(images, kind="stable")
    ordered = images[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    ranks = np.arange(len(images)) - np.repeat(starts, np.diff(starts, append=len(images)))
    repetitions = np.empty_like(images)
    repetitions[order] = ranks
    return repetitions


def evaluation_share(num_images: int, num_replicas: int = 1, rank: int = 0) -> range:
    """The pictures that process `rank` evaluates; over all processes each picture exactly once."""
    return range(rank, num_images, num_replicas)


def rare_class_factors(index: DetectionIndex, threshold: float) -> np.ndarray:
    """Repeat factors float64 `[N]` that show rare classes more often (LVIS, arXiv:1908.03195).

    A class in a share f of the pictures, 0..1, has the factor `max(1, sqrt(threshold / f))`; a picture has the
    largest factor of its classes, and 1 if it is empty.
    """
    images = np.repeat(np.arange(len(index)), np.diff(index.box_offsets))
    pairs = np.unique(np.stack([images, index.labels], axis=1)[~index.crowd].astype(np.int64), axis=0)
    shares = np.bincount(pairs[:, 1], minlength=len(index.class_names)) / max(len(index), 1)
    class_factors = np.sqrt(threshold / np.maximum(shares, 1e-12)).clip(min=1)
    factors = np.ones(len(index))
    np.maximum.at(factors, pairs[:, 0], class_factors[pairs[:, 1]])
    return factors
