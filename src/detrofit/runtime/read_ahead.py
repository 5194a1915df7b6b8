"""A thread that decodes ahead of inference, never by more than a few pictures."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterator
from types import TracebackType

from detrofit.runtime.frames import Frame

CAPACITY = 4  # frames; more would only hold memory, since decoding and inference run at once
CAPACITY_BYTES = 64 << 20
_PATIENCE = 5.0  # seconds that closing waits for a thread that may hang in a network read


class ReadAhead:
    """Iterates over `frames`, which a thread of its own takes and keeps in a bounded queue.

    When the queue is full the thread waits, so a file is decoded no faster than it is used. Live frames do not wait:
    the oldest one makes room, and is counted in `dropped`, so that what is seen is never old. What `frames` raises is
    raised here, after the frames before it.

    Args:
        frames: a generator; the thread runs it and closes it.
        stop: set when this is closed, for `frames` to notice.
        capacity: the most frames that wait, of CAPACITY_BYTES together (one of any size).
    """

    def __init__(self, frames: Generator[Frame, None, None], stop: threading.Event, capacity: int = CAPACITY) -> None:
        self.dropped = 0
        self._frames, self._stop, self._capacity = frames, stop, capacity
        self._queue: deque[Frame] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._finished = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="detrofit-reader", daemon=True)

    def __enter__(self) -> ReadAhead:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._thread.join(_PATIENCE)
        self._queue.clear()

    def stop(self) -> None:
        """End the iteration, at once where it waits; a signal handler may call it (the lock is re-entrant)."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self._take()) is not None:
            yield frame

    def _take(self) -> Frame | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._finished or self._stop.is_set())
            if self._stop.is_set():
                return None
            if self._queue:
                return self._pop()
        if self._error is not None:
            raise self._error
        return None

    def _pop(self) -> Frame:
        frame = self._queue.popleft()
        self._bytes -= frame.pixels.nbytes
        self._changed.notify_all()
        return frame

    def _read(self) -> None:
        try:
            for frame in self._frames:
                if not self._put(frame):
                    break
        except BaseException as error:  # raised again where the frames are used
            self._error = error
        finally:
            self._frames.close()  # here, so that files are closed by the thread that used them
            with self._changed:
                self._finished = True
                self._changed.notify_all()

    def _put(self, frame: Frame) -> bool:
        """Whether there is still someone to read for."""
        with self._changed:
            while frame.live and self._is_full(frame) and self._queue[0].live:
                self._pop()
                self.dropped += 1
            self._changed.wait_for(lambda: self._stop.is_set() or not self._is_full(frame))
            if self._stop.is_set():
                return False
            self._queue.append(frame)
            self._bytes += frame.pixels.nbytes
            self._changed.notify_all()
            return True

    def _is_full(self, frame: Frame) -> bool:
        too_large = self._bytes + frame.pixels.nbytes > CAPACITY_BYTES
        return bool(self._queue) and (len(self._queue) >= self._capacity or too_large)
