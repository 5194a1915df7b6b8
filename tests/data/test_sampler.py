from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detrofit.data.sampler import EpochOrder, evaluation_share, rare_class_factors
from detrofit.errors import DetrofitError
from tests.data.small_index import index_of


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 5))
def test_an_epoch_shows_every_picture_and_fills_the_last_batch_from_the_start(
    num_images: int, batch_size: int, epoch: int
) -> None:
    order = EpochOrder(num_images, batch_size, seed=1)
    batches = list(order.batches(epoch))
    draws = [draw for batch in batches for draw in batch]
    assert len(batches) == len(order) and all(len(batch) == batch_size for batch in batches)
    assert sorted(draw.image for draw in draws[:num_images]) == list(range(num_images))
    filled = [draw.image for draw in draws[num_images:]]
    assert filled == [draws[position % num_images].image for position in range(len(filled))]
    assert len(set(draws)) == len(draws)  # a picture drawn twice has another repetition, so another augmentation


@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 4))
def test_processes_share_the_batches_of_one_process(num_images: int, share: int, num_replicas: int) -> None:
    batch_size = share * num_replicas
    whole = list(EpochOrder(num_images, batch_size, 5).batches(2))
    parts = [
        list(EpochOrder(num_images, batch_size, 5, num_replicas=num_replicas, rank=rank).batches(2))
        for rank in range(num_replicas)
    ]
    assert [list(itertools.chain(*each)) for each in zip(*parts, strict=True)] == whole


def test_epochs_and_seeds_differ_and_repeat() -> None:
    def images(seed: int, epoch: int) -> list[int]:
        return [draw.image for batch in EpochOrder(50, 10, seed).batches(epoch) for draw in batch]

    assert images(0, 0) == images(0, 0)
    assert images(0, 0) != images(0, 1) and images(0, 0) != images(1, 0)


def test_an_epoch_continues_where_it_was_left() -> None:
    order = EpochOrder(50, 8, seed=0)
    assert list(order.batches(3, start_step=4)) == list(order.batches(3))[4:]
    assert list(order.batches(3, start_step=len(order))) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_images": 0, "batch_size": 4}, "no pictures"),
        ({"num_images": 9, "batch_size": 4, "num_replicas": 3}, "use a multiple of 3"),
        ({"num_images": 9, "batch_size": 0}, "cannot be shared"),
    ],
)
def test_impossible_batches_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(DetrofitError, match=message):
        EpochOrder(seed=0, **arguments)


@given(st.integers(0, 50), st.integers(1, 5))
def test_evaluation_sees_each_picture_once(num_images: int, num_replicas: int) -> None:
    shares = [evaluation_share(num_images, num_replicas, rank) for rank in range(num_replicas)]
    assert sorted(image for share in shares for image in share) == list(range(num_images))


def test_pictures_are_drawn_as_often_as_their_factors_say() -> None:
    factors = np.array([1.0] * 8 + [2.6, 3.4])
    order = EpochOrder(10, 2, seed=0, repeat_factors=factors)
    counts = np.zeros(10)
    for epoch in range(200):
        images = [draw.image for batch in order.batches(epoch) for draw in batch]
        assert len(images) == 14 and set(images) == set(range(10))
        counts += np.bincount(images, minlength=10)
    assert counts / 200 == pytest.approx(factors, abs=0.1)


def test_rare_classes_have_the_published_factors(tmp_path: Path) -> None:
    labels = [np.array([0, 0, 1])] + [np.array([0])] * 8 + [np.zeros(0)]
    boxes = [np.zeros((len(each), 4)) for each in labels]
    index = index_of(tmp_path, ["a"] * 10, [(9, 9)] * 10, boxes, labels)
    factors = rare_class_factors(index, threshold=0.4)
    assert factors == pytest.approx([2.0] + [1.0] * 9)  # class 1 is in 0.1 of the pictures: sqrt(0.4 / 0.1)
