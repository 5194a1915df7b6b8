"""What holds for every test: one thread a worker, no network, no window, repeatable examples, no parts left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

# Before anything imports torch: the workers of pytest-xdist share the cores, so one thread each, and child processes
# inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

from hypothesis import settings

from detrofit.parts import registry

# The time of an example says more about the neighbours on the machine than about the code; a failure must come again.
settings.register_profile("detrofit", deadline=None, derandomize=True)
settings.load_profile("detrofit")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[Any]:
    """Take out the parts that a test has registered: a later one may use their names, or all parts that there are."""
    list(registry.all_parts())  # those that are installed stay
    parts = registry._PARTS
    before = dict(parts)
    try:
        return (yield)
    finally:
        parts.clear()
        parts.update(before)
