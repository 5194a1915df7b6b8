"""What a check of a part is, and how one fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from detrofit.parts.slots import Slot
from detrofit.parts.trials import Place


class CheckFailure(AssertionError):
    """A promise that a part does not keep; its text is one line for people."""


@dataclass(frozen=True)
class Check:
    """One promise: its name for people, the slots that it concerns, and the function that tries it."""

    name: str
    concerns: Callable[[Slot], bool]
    run: Callable[[Place], None]


@dataclass(frozen=True)
class CheckResult:
    """The outcome of a check: `failure` is None where the part keeps the promise."""

    part: str
    slot: str
    check: str
    failure: str | None


def require(kept: bool, failure: str) -> None:
    """CheckFailure with that text unless the promise is kept."""
    if not kept:
        raise CheckFailure(failure)
