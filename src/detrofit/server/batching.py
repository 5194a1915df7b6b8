"""One thread that runs what several requests ask for at once."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np

from detrofit.runtime.results import Detections


class Batcher:
    """Runs submitted pictures in batches, in the order in which they came; all calls of `detect` are in one thread.

    Args:
        detect: pictures to their detections.
        batch: the most pictures at once.
        gather_seconds: how long the first picture of a batch waits for others.
        observe: told the size of each batch.
    """

    def __init__(
        self,
        detect: Callable[[Sequence[np.ndarray]], list[Detections]],
        batch: int,
        gather_seconds: float,
        observe: Callable[[int], object] = lambda size: None,
    ) -> None:
        self._detect, self._batch, self._gather_seconds, self._observe = detect, batch, gather_seconds, observe
        self._waiting: deque[tuple[np.ndarray, Future[Detections]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="detrofit-batcher", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """How many pictures wait."""
        return len(self._waiting)

    def submit(self, picture: np.ndarray) -> Future[Detections]:
        """Ask for the detections of a decoded picture; a future that is cancelled in time is passed over."""
        future: Future[Detections] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self._waiting.append((picture, future))
            self._changed.notify_all()
        return future

    def close(self) -> None:
        """Finish what waits, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while chosen := self._gather():
            wanted = [(picture, future) for picture, future in chosen if future.set_running_or_notify_cancel()]
            if not wanted:
                continue
            self._observe(len(wanted))
            try:
                answers = self._detect([picture for picture, _ in wanted])
            except Exception as error:  # it is the requests' to report; the thread goes on
                for _, future in wanted:
                    future.set_exception(error)
                continue
            for (_, future), found in zip(wanted, answers, strict=True):
                future.set_result(found)

    def _gather(self) -> list[tuple[np.ndarray, Future[Detections]]]:
        """The next batch; empty when there is none any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            deadline = time.monotonic() + self._gather_seconds
            self._changed.wait_for(
                lambda: len(self._waiting) >= self._batch or self._closed, max(0.0, deadline - time.monotonic())
            )
            return [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]
