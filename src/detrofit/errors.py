"""The one exception family: what a user can cause, said in one line that names the thing and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DetrofitError(Exception):
    """A mistake of the user's or of their files. Commands print its single line and exit with code 2."""


class DetrofitWarning(UserWarning):
    """Something that a user should know and that stops nothing. Commands print its single line on stderr."""


def nearest(given: str, allowed: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the allowed name closest in spelling to `given`, or an empty string."""
    matches = difflib.get_close_matches(given, list(allowed), n=1, cutoff=0.5)
    return f"; did you mean '{matches[0]}'?" if matches else ""


def missing_extra(module: str, extra: str) -> DetrofitError:
    """The error for an absent optional dependency: what is missing and the command that installs it."""
    return DetrofitError(f"this needs '{module}', which is not installed: pip install \"detrofit[{extra}]\"")
