"""Which optional extra of this distribution brings a module that is not installed."""

from __future__ import annotations

import re

from detrofit.errors import DetrofitError, missing_extra

_EXTRA_MARKER = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")


def extra_that_brings(module: str) -> str | None:
    """The first extra whose requirements hold the distribution named like `module`, or None."""
    wanted = _normalised(module)
    for requirement in _requirements():
        marker = _EXTRA_MARKER.search(requirement)
        if marker and _normalised(re.split(r"[^\w.-]", requirement, maxsplit=1)[0]) == wanted:
            return marker[1]
    return None


def explain_missing_module(error: ModuleNotFoundError) -> DetrofitError | None:
    """The one-line error for a module of an extra that is not installed; None if no extra would bring it."""
    module = error.name or ""  # a dotted name is a hole in something installed, which no extra would fill
    extra = extra_that_brings(module)
    return missing_extra(module, extra) if extra else None


def _requirements() -> list[str]:
    from importlib import metadata  # slow to import, and rarely needed

    try:
        return metadata.requires("detrofit") or []
    except metadata.PackageNotFoundError:  # imported from a bare source tree
        return []


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
