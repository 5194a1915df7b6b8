"""How many processes load pictures."""

from __future__ import annotations

import os

MAX_WORKERS = 8


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers(wanted: int | None) -> int:
    """`wanted`, or one for each core that this process may use, at most eight."""
    return min(MAX_WORKERS, usable_cores()) if wanted is None else wanted
