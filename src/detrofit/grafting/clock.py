"""What something takes, noted while it goes on, so that a kill loses a minute of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS = 60.0  # between two notes


@contextmanager
def now_and_then(note: Callable[[], object]) -> Iterator[None]:
    """Calls `note` every minute while the context lasts, in a thread of its own, and once more at its end."""
    over = threading.Event()

    def keep_noting() -> None:
        while not over.wait(SECONDS):
            note()

    thread = threading.Thread(target=keep_noting, name="detrofit-clock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        note()
