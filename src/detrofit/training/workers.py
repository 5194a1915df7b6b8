"""How many processes load pictures."""

from __future__ import annotations

import os

MAX_WORKERS = 8


def default_workers(wanted: int | None) -> int:
    """`wanted`, or one for each core that this process may use, at most eight."""
    if wanted is not None:
        return wanted
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MAX_WORKERS, available)
