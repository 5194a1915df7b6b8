"""Ctrl-C and SIGTERM during a training: an update is finished first, so that what is saved fits together."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Turns SIGINT and SIGTERM into KeyboardInterrupt, as a context; outside the main thread it changes nothing.

    Inside `held_back` the first one waits for the end of the block; a second one does not wait.

    Attributes:
        asked: whether there has been one.
        broke_off: whether one ended a `held_back` block half-way, so that what it worked on does not fit together.
        by_agreement: the first one only sets `asked`: of several processes none may stop alone, while the others wait
            for it. They have to tell each other, and stop at the same place.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._process = os.getpid()
        self._holding = False
        self.asked = self.broke_off = self.by_agreement = False

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """What happens inside is done wholly before an interruption counts."""
        self._holding = True
        try:
            yield
        except KeyboardInterrupt:
            self.broke_off = True
            raise
        finally:
            self._holding = False
        if self.asked and not self.by_agreement:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        first, self.asked = not self.asked, True
        # Processes that load pictures inherit the handler, and the state of the moment when they were made.
        if (self._holding or self.by_agreement) and first and os.getpid() == self._process:
            return
        raise KeyboardInterrupt
