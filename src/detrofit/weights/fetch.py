"""From what a person writes after `--weights` to a file on this machine: a path, a name on the hub, or a URL."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urldefrag, urlsplit

from detrofit.errors import DetrofitError
from detrofit.files import cache_folder, file_digest
from detrofit.weights.download import Remote, download
from detrofit.weights.hub import Patience, fetch_from_hub, parse_hub_name, refuse_network, within
from detrofit.weights.model_file import BEST

__all__ = ["Patience", "fetch", "is_remote"]

_DIGEST = re.compile(r"sha256=([0-9a-fA-F]{64})")
_IN_URLS = "%/:=&?~+!$,;'@()*[]"  # what stays as it is; a person also writes blanks and letters with accents


def is_remote(weights: str) -> bool:
    """Whether weights are named by a URL or on the hub, and not by a path."""
    return _is_url(weights) or (not Path(weights).exists() and parse_hub_name(weights) is not None)


def fetch(weights: str, patience: Patience = "long") -> Path:
    """The file or folder that `weights` name, downloaded and cached where it is not on this machine.

    A path, where a run folder stands for its best model file; a URL, with `#sha256=DIGEST` behind it where the content
    shall be checked; a name on the hub (see `parse_hub_name`). Raises DetrofitError in one line for what cannot be had.

    Args:
        patience: with servers; "none" uses what is cached alone.
    """
    if _is_url(weights):
        return _fetch_url(weights, patience)
    path = Path(weights)
    if path.exists():
        return path / BEST if (path / BEST).is_file() else path
    name = parse_hub_name(weights)
    if name is None:
        raise DetrofitError(f"weights {weights} do not exist; give a file or folder, hf:ORGANISATION/NAME, or a URL")
    try:
        return fetch_from_hub(name, patience)
    except DetrofitError as error:
        if weights.startswith("hf:"):
            raise
        raise DetrofitError(f"no file or folder is called {weights}, and as a name on the hub: {error}") from None


def _is_url(weights: str) -> bool:
    return weights.lower().startswith(("https://", "http://"))


def _parse_url(weights: str) -> tuple[str, str | None]:
    """The address that is asked for, and the digest; DetrofitError for what is no address or no digest."""
    try:
        url, fragment = urldefrag(weights)
        parts = urlsplit(url)
        if not parts.hostname or parts.port == 0:
            raise ValueError("it names no server")
    except ValueError as error:
        raise DetrofitError(f"{weights} is no URL: {error}") from None
    digest = _DIGEST.fullmatch(fragment)
    if fragment and digest is None:
        raise DetrofitError(f"{weights}: behind # a digest may stand, sha256= and 64 hexadecimal digits")
    return quote(url, safe=_IN_URLS), digest and digest[1].lower()


def _fetch_url(weights: str, patience: Patience) -> Path:
    url, digest = _parse_url(weights)
    name = re.sub(r"[^\w.-]", "_", PurePosixPath(unquote(urlsplit(url).path)).name).lstrip(".")[-80:] or "weights"
    target = cache_folder("weights") / "url" / hashlib.sha256(url.encode()).hexdigest()[:16] / name
    if target.is_file() and (digest is None or file_digest(target) == digest):
        return target
    refuse_network(url if digest is None else f"{url} with this digest", patience)
    if target.is_file():  # of another content than is asked for
        target.unlink()
    if patience == "short":
        _greet(url)
    return download(Remote(url, name, digest), target)


def _greet(url: str) -> None:
    """DetrofitError unless the server of a URL answers at once."""
    import urllib.error
    import urllib.request

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "detrofit"})
        urllib.request.urlopen(request, timeout=4).close()

    try:
        within(5, ask)
    except urllib.error.HTTPError as error:
        raise DetrofitError(f"{url} cannot be had: the server answers {error.code}") from None
    except OSError as error:
        reason = getattr(error, "reason", None) or error
        raise DetrofitError(f"{urlsplit(url).netloc} is not reachable ({reason})") from None
