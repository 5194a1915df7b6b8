from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator

import numpy as np
import pytest

from detrofit.errors import DetrofitError
from detrofit.runtime import read_ahead
from detrofit.runtime.frames import Frame
from detrofit.runtime.read_ahead import ReadAhead


class Source:
    """Frames that are counted as they are asked for."""

    def __init__(self, count: int, live: bool = False, error: Exception | None = None, side: int = 2) -> None:
        self.count, self.live, self.error, self.side = count, live, error, side
        self.made = 0
        self.closed_by: int | None = None

    def frames(self) -> Generator[Frame, None, None]:
        try:
            for number in range(self.count):
                self.made += 1
                yield Frame("a", 0, np.zeros((self.side, self.side, 3), np.uint8), number, live=self.live)
            if self.error:
                raise self.error
        finally:
            self.closed_by = threading.get_ident()


def numbers(frames: list[Frame]) -> list[int | None]:
    return [frame.number for frame in frames]


def settles(value: Callable[[], int]) -> int:
    """The value once it has not changed for a tenth of a second."""
    seen, since = value(), time.monotonic()
    while time.monotonic() - since < 0.1:
        if value() != seen:
            seen, since = value(), time.monotonic()
        time.sleep(0.005)
    return seen


def test_all_frames_come_in_order_from_a_thread_of_its_own() -> None:
    source = Source(50)
    with ReadAhead(source.frames(), threading.Event()) as ahead:
        assert numbers(list(ahead)) == list(range(50))
    assert source.closed_by not in (None, threading.get_ident()) and ahead.dropped == 0


def test_a_file_is_read_no_faster_than_it_is_used() -> None:
    source = Source(50)
    with ReadAhead(source.frames(), threading.Event(), capacity=3) as ahead:
        frames = iter(ahead)
        for used in range(1, 4):
            next(frames)
            assert settles(lambda: source.made) == used + 3 + 1, "three wait in the queue and one before it"


def test_large_frames_count_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_ahead, "CAPACITY_BYTES", 2 * 300)
    source = Source(20, side=10)  # of 300 bytes each
    with ReadAhead(source.frames(), threading.Event(), capacity=9) as ahead:
        next(iter(ahead))
        assert settles(lambda: source.made) == 1 + 2 + 1
    monkeypatch.setattr(read_ahead, "CAPACITY_BYTES", 1)
    with ReadAhead(Source(5).frames(), threading.Event()) as ahead:
        assert len(list(ahead)) == 5, "one of any size fits"


def test_live_frames_make_room_for_newer_ones() -> None:
    source = Source(50, live=True)
    with ReadAhead(source.frames(), threading.Event(), capacity=3) as ahead:
        frames = iter(ahead)
        taken = [next(frames)]
        assert settles(lambda: source.made) == 50, "a camera does not wait"
        taken += frames
        assert numbers(taken)[-3:] == [47, 48, 49] and len(taken) + ahead.dropped == 50


def test_live_frames_never_push_out_those_of_a_file() -> None:
    def both() -> Generator[Frame, None, None]:
        yield from Source(2).frames()
        yield from Source(9, live=True).frames()

    with ReadAhead(both(), threading.Event(), capacity=2) as ahead:
        time.sleep(0.1)
        assert numbers(list(ahead))[:2] == [0, 1]


def test_an_error_comes_after_the_frames_before_it() -> None:
    seen = []
    with (
        pytest.raises(DetrofitError, match="broken"),
        ReadAhead(Source(3, error=DetrofitError("broken")).frames(), threading.Event()) as ahead,
    ):
        for frame in ahead:
            seen.append(frame.number)
    assert seen == [0, 1, 2]


def test_leaving_early_ends_the_thread() -> None:
    source = Source(10**9)
    stop = threading.Event()
    with ReadAhead(source.frames(), stop) as ahead:
        next(iter(ahead))
    assert stop.is_set() and source.closed_by is not None
    assert not any(thread.name == "detrofit-reader" for thread in threading.enumerate())


def test_stopping_ends_who_waits() -> None:
    may_end = threading.Event()

    def silent() -> Generator[Frame, None, None]:
        may_end.wait(20)
        yield from ()

    with ReadAhead(silent(), threading.Event()) as ahead:
        threading.Timer(0.05, ahead.stop).start()
        assert list(ahead) == []
        may_end.set()
