"""Properties over damaged files: a few examples in every run, many in the slow ones."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

MANY = pytest.param(2000, marks=pytest.mark.slow, id="many")
CHANGES = st.lists(st.tuples(st.integers(0, 5000), st.binary(min_size=1, max_size=4)), max_size=10)


def check(examples: int, *strategies: st.SearchStrategy[object]) -> Callable[[Callable[..., None]], None]:
    """Run a property on so many examples."""

    def run(holds: Callable[..., None]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of what it can pass over
            bounds = settings(max_examples=examples, suppress_health_check=list(HealthCheck))
            bounds(given(*strategies)(holds))()

    return run


def damaged(content: bytes, changes: list[tuple[int, bytes]], length: int) -> bytes:
    """`content` cut off after `length` bytes, with some overwritten."""
    changed = bytearray(content)
    for place, new in changes:
        changed[place % len(changed) : place % len(changed) + len(new)] = new
    return bytes(changed[:length])
