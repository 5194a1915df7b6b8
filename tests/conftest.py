"""What holds for every test: one thread a worker, no network, no window, repeatable examples."""

from __future__ import annotations

import os

# Before anything imports torch: the workers of pytest-xdist share the cores, so one thread each, and child processes
# inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

from hypothesis import settings

# The time of an example says more about the neighbours on the machine than about the code; a failure must come again.
settings.register_profile("detrofit", deadline=None, derandomize=True)
settings.load_profile("detrofit")
