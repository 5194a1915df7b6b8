"""How many processes load pictures."""

from __future__ import annotations

import os

MAX_WORKERS = 8


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers(wanted: int | None) -> int:
    """`wanted`, or one for each core that this process may use, from one to eight.

    The processes of a training on one machine, as many as its launcher says in `LOCAL_WORLD_SIZE`, share the cores.
    """
    sharing = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(MAX_WORKERS, max(1, usable_cores() // sharing)) if wanted is None else wanted
