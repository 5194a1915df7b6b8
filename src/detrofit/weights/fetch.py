"""From what a person writes after `--weights` to a file on this machine: a path, a name on the hub, or a URL."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urldefrag, urlsplit

from detrofit.errors import DetrofitError
from detrofit.files import cache_folder, file_digest
from detrofit.weights.download import Remote, download
from detrofit.weights.hub import Patience, fetch_from_hub, parse_hub_name, refuse_network, within

__all__ = ["Patience", "fetch", "is_remote"]

_DIGEST = "sha256="


def is_remote(weights: str) -> bool:
    """Whether weights are named by a URL or on the hub, and not by a path."""
    return _is_url(weights) or (not Path(weights).exists() and parse_hub_name(weights) is not None)


def fetch(weights: str, patience: Patience = "long") -> Path:
    """The file or folder that `weights` name, downloaded and cached where it is not on this machine.

    A path; a URL, with `#sha256=DIGEST` behind it where the content shall be checked; a name on the hub (see
    `parse_hub_name`). Raises DetrofitError in one line for what cannot be had.

    Args:
        patience: with servers; "none" uses what is cached alone.
    """
    if _is_url(weights):
        return _fetch_url(weights, patience)
    path = Path(weights)
    if path.exists():
        return path
    name = parse_hub_name(weights)
    if name is not None:
        return fetch_from_hub(name, patience)
    raise DetrofitError(
        f"weights {weights} do not exist; give a file or folder, hf:ORGANISATION/NAME, a URL, or a model of the zoo"
    )


def _is_url(weights: str) -> bool:
    return weights.startswith(("https://", "http://"))


def _fetch_url(weights: str, patience: Patience) -> Path:
    url, fragment = urldefrag(weights)
    digest = fragment.removeprefix(_DIGEST) if fragment.startswith(_DIGEST) else None
    name = re.sub(r"[^\w.-]", "_", PurePosixPath(unquote(urlsplit(url).path)).name).lstrip(".")[-80:] or "weights"
    target = cache_folder("weights") / "url" / hashlib.sha256(url.encode()).hexdigest()[:16] / name
    if target.is_file():
        if digest is None or file_digest(target) == digest.lower():
            return target
        target.unlink()
    refuse_network(url, patience)
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
