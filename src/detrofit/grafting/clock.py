"""What something takes, noted while it goes on, so that a kill loses a minute of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from detrofit.errors import DetrofitError

SECONDS = 60.0  # between two notes


@contextmanager
def now_and_then(note: Callable[[], object]) -> Iterator[None]:
    """Calls `note` every minute while the context lasts, in a thread of its own, and once more at its end.

    That a note cannot be written is an error only where all else went well: a full disk is better told by the work.
    """
    over = threading.Event()

    def keep_noting() -> None:
        while not over.wait(SECONDS):
            with suppress(DetrofitError):
                note()

    thread = threading.Thread(target=keep_noting, name="detrofit-clock", daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        _end(over, thread)
        with suppress(DetrofitError):
            note()
        raise
    _end(over, thread)
    note()


def _end(over: threading.Event, thread: threading.Thread) -> None:
    over.set()
    thread.join()
