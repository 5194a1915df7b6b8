"""Files of repositories on the Hugging Face hub, or on the mirror that `HF_ENDPOINT` names."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from detrofit.errors import DetrofitError
from detrofit.files import cache_folder
from detrofit.weights.contents import BESIDE, CARD, WEIGHTS_FILES
from detrofit.weights.download import Remote, download

Result = TypeVar("Result")
Patience = Literal["long", "short", "none"]

_NAME = re.compile(r"hf:(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?(/(?P<file>.+))?")
_BARE = re.compile(r"[A-Za-z0-9][\w-]*/[A-Za-z0-9][\w.-]*")
_FILES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors", ".onnx", ".xml", ".yaml", ".json")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SECONDS: Mapping[Patience, float] = {"long": 15.0, "short": 4.0}  # for the hub's first answer


@dataclass(frozen=True)
class HubName:
    """A repository on the hub, a revision of it, and a file in it where one is named."""

    repository: str
    revision: str = "main"
    file: str | None = None

    def __str__(self) -> str:
        revision = "" if self.revision == "main" else f"@{self.revision}"
        return f"hf:{self.repository}{revision}" + (f"/{self.file}" if self.file else "")


def parse_hub_name(text: str) -> HubName | None:
    """`hf:ORGANISATION/NAME`, with `@REVISION` and `/FILE` where wanted, or `ORGANISATION/NAME` alone; None otherwise.

    What looks like the path of a file is no name.
    """
    match = _NAME.fullmatch(text)
    if match:
        pieces = re.split("[/@]", text.removeprefix("hf:"))
        if any(piece in ("", ".", "..") or set(piece) & set("\\:\0") for piece in pieces):
            raise DetrofitError(f"'{text}' is no name on the hub: it leads out of a repository")
        return HubName(match["repository"], match["revision"] or "main", match["file"])
    return HubName(text) if _BARE.fullmatch(text) and not text.lower().endswith(_FILES) else None


def refuse_network(name: str, patience: Patience) -> None:
    """DetrofitError where the network is not to be used, for something that is not cached."""
    named = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    if named.upper() in ("1", "ON", "YES", "TRUE"):
        raise DetrofitError(f"{name} is in no cache here, and HF_HUB_OFFLINE forbids asking for it")
    if patience == "none":
        raise DetrofitError(f"{name} is in no cache here")


def fetch_from_hub(name: HubName, patience: Patience = "long") -> Path:
    """The weights of a repository as a local file, beside it what belongs to them (`BESIDE`) where it is there.

    What the hub's own cache holds is used without asking the hub. Raises DetrofitError in one line for what is not
    there, not allowed, not reachable, or damaged.

    Args:
        patience: with a hub that is silent; "none" uses what is cached alone.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name.repository)
    except HFValidationError as error:
        raise DetrofitError(f"{name} is no name on the hub: {error}") from None
    wanted = WEIGHTS_FILES if name.file is None else (name.file,)
    for file in wanted:
        if (cached := _cached(name, file)) is not None:
            return cached
    refuse_network(str(name), patience)
    first = PurePosixPath(wanted[0])
    for beside in BESIDE if first.name in WEIGHTS_FILES else ():
        # A backbone's repository need not have them, and no weights are given up for want of a card.
        with suppress(DetrofitError if beside == CARD else _NoSuchFile):
            _download(name, str(first.with_name(beside)), patience)
    for file in wanted:
        with suppress(_NoSuchFile):
            return _download(name, file, patience)
    raise DetrofitError(f"{name} has no {' or '.join(wanted)}; name a file that it has: hf:{name.repository}/FILE")


class _NoSuchFile(DetrofitError):
    pass


def _cached(name: HubName, file: str) -> Path | None:
    """The file where the hub's client or an earlier start has put it."""
    import huggingface_hub

    found = huggingface_hub.try_to_load_from_cache(name.repository, file, revision=name.revision)
    if isinstance(found, str):
        return Path(found)
    target = _target(name, file)
    return target if target.is_file() else None


def _target(name: HubName, file: str) -> Path:
    return cache_folder("weights") / "hub" / name.repository.replace("/", "--") / name.revision / file


def _download(name: HubName, file: str, patience: Patience) -> Path:
    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    return download(_remote(name, file, endpoint, _SECONDS[patience]), _target(name, file))


def _remote(name: HubName, file: str, endpoint: str, timeout: float) -> Remote:
    """Where the hub says that the file is, and its digest."""
    from huggingface_hub import errors, get_hf_file_metadata, get_token, hf_hub_url

    url = hf_hub_url(name.repository, file, revision=name.revision, endpoint=endpoint)
    try:
        found = within(timeout + 1, lambda: get_hf_file_metadata(url, timeout=timeout))
    except errors.GatedRepoError:
        raise DetrofitError(f"{name} asks for consent on its page at {endpoint}, then `hf auth login`") from None
    except errors.RepositoryNotFoundError:
        raise DetrofitError(f"{endpoint} has no {name}, or it is private: check the name, or `hf auth login`") from None
    except errors.RevisionNotFoundError:
        raise DetrofitError(f"{name} has no revision '{name.revision}' at {endpoint}") from None
    except errors.EntryNotFoundError:
        raise _NoSuchFile(f"{name} has no file {file} at {endpoint}") from None
    except errors.HfHubHTTPError as error:
        raise DetrofitError(f"{name} cannot be had: {endpoint} answers {_status(error)}") from None
    except Exception as error:  # what the client raises without a network differs from version to version
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise DetrofitError(f"{name} cannot be had: {endpoint} is not reachable ({reason})") from None
    if found.commit_hash is None or found.etag is None:
        raise DetrofitError(f"{name} cannot be had: {endpoint} does not answer as a hub does; check HF_ENDPOINT")
    token = get_token() if urlsplit(found.location).netloc == urlsplit(endpoint).netloc else None
    digest = found.etag if _SHA256.fullmatch(found.etag) else None
    return Remote(found.location, f"{name.repository}/{file}", digest, found.size, token and f"Bearer {token}")


def _status(error: Any) -> str:
    return str(getattr(getattr(error, "response", None), "status_code", None) or type(error).__name__)


def within(seconds: float, action: Callable[[], Result]) -> Result:
    """What `action` returns or raises; TimeoutError when it takes longer.

    A name server that is silent cannot be interrupted, so the action runs in a thread that nobody waits for.
    """
    outcome: list[Callable[[], Result]] = []

    def run() -> None:
        try:
            result = action()
        except BaseException as error:
            caught = error
            outcome.append(lambda: _raise(caught))
        else:
            outcome.append(lambda: result)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    return outcome[0]()


def _raise(error: BaseException) -> Any:
    raise error
