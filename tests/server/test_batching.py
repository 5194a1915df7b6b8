from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import wait

import numpy as np
import pytest

from detrofit.runtime.results import Detections
from detrofit.server.batching import Batcher

NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), ("a",), (1, 1))


class Model:
    """Answers when it may; remembers the first pixel of every picture, by batch, and the threads that asked."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()
        self.started, self.may_go = threading.Event(), threading.Event()

    def __call__(self, pictures: Sequence[np.ndarray]) -> list[Detections]:
        self.threads.add(threading.get_ident())
        self.batches.append([int(picture[0, 0, 0]) for picture in pictures])
        self.started.set()
        assert self.may_go.wait(20)
        if 99 in self.batches[-1]:
            raise ValueError("this one fails")
        return [NOTHING] * len(pictures)


def picture(number: int) -> np.ndarray:
    return np.full((2, 2, 3), number, np.uint8)


@pytest.fixture
def model() -> Iterator[Model]:
    model = Model()
    yield model
    model.may_go.set()


def test_what_waits_runs_together_and_in_order(model: Model) -> None:
    sizes: list[int] = []
    batcher = Batcher(model, 3, 0.0, sizes.append)
    first = batcher.submit(picture(0))
    assert model.started.wait(20)
    others = [batcher.submit(picture(number)) for number in range(1, 8)]
    assert len(batcher) == 7
    model.may_go.set()
    wait([first, *others], 20)
    assert model.batches == [[0], [1, 2, 3], [4, 5, 6], [7]] and sizes == [1, 3, 3, 1]
    assert len(model.threads) == 1 and len(batcher) == 0
    batcher.close()


def test_the_first_one_waits_for_others_but_not_for_ever(model: Model) -> None:
    model.may_go.set()
    batcher = Batcher(model, 2, 20.0)
    wait([batcher.submit(picture(1)), batcher.submit(picture(2))], 10)
    assert model.batches == [[1, 2]], "full, so it went at once"
    batcher.close()
    alone = Batcher(model, 8, 0.01)
    assert alone.submit(picture(3)).result(20) is NOTHING
    alone.close()


def test_who_left_is_passed_over(model: Model) -> None:
    batcher = Batcher(model, 1, 0.0)
    first = batcher.submit(picture(0))
    assert model.started.wait(20)
    gone, last = batcher.submit(picture(1)), batcher.submit(picture(2))
    assert gone.cancel()
    model.may_go.set()
    wait([first, last], 20)
    assert model.batches == [[0], [2]]
    batcher.close()


def test_an_error_goes_to_its_requests_and_ends_nothing(model: Model) -> None:
    model.may_go.set()
    batcher = Batcher(model, 1, 0.0)
    with pytest.raises(ValueError, match="this one fails"):
        batcher.submit(picture(99)).result(20)
    assert batcher.submit(picture(1)).result(20) is NOTHING
    batcher.close()


def test_closing_finishes_what_waits(model: Model) -> None:
    batcher = Batcher(model, 2, 0.0)
    futures = [batcher.submit(picture(number)) for number in range(5)]
    model.may_go.set()
    batcher.close()
    assert all(future.result(0) is NOTHING for future in futures)
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit(picture(9))
