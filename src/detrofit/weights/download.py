"""Downloading one file: kept where it was interrupted and gone on with, checked, and only then moved into its place."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any

from detrofit.errors import DetrofitError
from detrofit.files import file_digest

TIMEOUT = 20.0  # seconds without an answer, or without a byte
_ATTEMPTS = 4  # connections for one file, each of which must have brought something
_PIECE = 2**18
_SHORTEST_PAGE = 256  # bytes that tell a page from weights
_SHOWN_FROM = 2**20  # bytes; smaller files are there before a bar could be read


@dataclass(frozen=True)
class Remote:
    """A file on a server.

    Attributes:
        url: where it is; `name` is what people call it.
        sha256: its digest in hexadecimal, where it is known.
        size: in bytes, where it is known beforehand.
        authorisation: the header of that name, for this address alone and no other that it leads to.
    """

    url: str
    name: str
    sha256: str | None = None
    size: int | None = None
    authorisation: str | None = None


class _Unkept(OSError):
    """What arrived cannot be written, which no other connection mends."""


@dataclass
class _Part:
    """What has arrived of a file, and of which version: the server's mark of it, by which it is gone on with."""

    file: Path
    mark: str = ""
    total: int | None = None
    received: int = field(init=False)

    def __post_init__(self) -> None:
        with suppress(OSError, ValueError, KeyError, TypeError):
            self.mark = json.loads(self._note.read_text("utf-8"))["mark"]
        self.received = self.file.stat().st_size if self.file.is_file() and self.mark else 0

    @property
    def _note(self) -> Path:
        return self.file.with_name(self.file.name + ".json")

    @property
    def complete(self) -> bool:
        return self.total is not None and self.received == self.total

    def restart(self, mark: str) -> None:
        """Begin the file, of the version with that mark."""
        self.mark, self.received = mark, 0
        try:
            self.file.write_bytes(b"")
            self._note.write_text(json.dumps({"mark": mark}), "utf-8")
        except OSError as error:
            raise _Unkept(error.errno, error.strerror) from None

    def add(self, piece: bytes) -> None:
        """Keep what came next."""
        try:
            with self.file.open("ab") as file:
                file.write(piece)
        except OSError as error:
            raise _Unkept(error.errno, error.strerror) from None
        self.received += len(piece)

    def forget(self) -> None:
        for file in (self.file, self._note):
            file.unlink(missing_ok=True)


def download(remote: Remote, target: Path) -> Path:
    """Bring a file to `target` with a progress bar; what an earlier attempt left is gone on with.

    Raises DetrofitError in one line where the server refuses, is silent, breaks off, or sends something else than the
    digest says or than weights are; and where the file cannot be kept.
    """
    from filelock import FileLock

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f".{target.name}.lock")):  # of processes that start together one downloads
            if not target.is_file():
                part = _Part(target.with_name(f".{target.name}.part"))
                _receive(remote, part)
                _check(remote, part)
                part.file.replace(target)
                part.forget()
    except OSError as error:
        raise DetrofitError(
            f"{remote.name} cannot be kept in {target.parent}: {error.strerror or error}; free space, or name another "
            "folder with DETROFIT_CACHE"
        ) from None
    return target


def _receive(remote: Remote, part: _Part) -> None:
    """Connect until all has arrived; a connection that brought nothing was the last."""
    problem: Exception | None = None
    for _ in range(_ATTEMPTS):
        before = part.received
        try:
            _connect(remote, part)
            if part.total is None or part.complete:
                return
            problem = ConnectionError(f"the server broke off after {part.received:,} of {part.total:,} bytes")
        except _Unkept:
            raise
        except urllib.error.HTTPError as error:
            problem = error
            if error.code == 416 and before:  # what is kept is of no use to the server
                part.restart("")
                continue
        except (OSError, http.client.HTTPException, ValueError) as error:
            problem = error
        if part.received <= before:
            break
    raise DetrofitError(f"{remote.name} cannot be downloaded: {_reason(problem)}")


def _connect(remote: Remote, part: _Part) -> None:
    request = urllib.request.Request(remote.url, headers={"User-Agent": "detrofit", "Accept-Encoding": "identity"})
    if remote.authorisation:
        request.add_unredirected_header("Authorization", remote.authorisation)
    if part.received and part.mark:
        request.add_header("Range", f"bytes={part.received}-")
        request.add_header("If-Range", part.mark)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        if answer.status != 206 or _first_byte(answer.headers) != part.received:
            part.restart(_mark(answer.headers))
        length = answer.headers.get("Content-Length", "")
        part.total = part.received + int(length) if length.isdigit() else remote.size
        with _bar(remote, part) as bar:
            while piece := answer.read(_PIECE):
                part.add(piece)
                bar(part.received)


def _mark(headers: Message) -> str:
    """A mark of the version that is the same for the same bytes alone; empty if the server has none."""
    etag = headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else ""


def _first_byte(headers: Message) -> int:
    """The position of the answer's first byte in the file; -1 where it does not say."""
    start = headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(start) if start.isdigit() else -1


def _check(remote: Remote, part: _Part) -> None:
    if remote.size is not None and part.received != remote.size:
        part.forget()
        raise DetrofitError(f"{remote.name} has {part.received:,} bytes, not {remote.size:,} as stated; try again")
    with part.file.open("rb") as file:
        beginning = file.read(_SHORTEST_PAGE).lstrip().lower()
    if beginning.startswith((b"<!doctype html", b"<html")):
        part.forget()
        raise DetrofitError(f"{remote.name}: the server sends a web page in its place; check the address {remote.url}")
    if remote.sha256 is not None and (found := file_digest(part.file)) != remote.sha256.lower():
        part.forget()
        raise DetrofitError(
            f"{remote.name} has the SHA-256 {found[:12]}..., not {remote.sha256.lower()[:12]}... as stated: it was "
            "damaged on its way or is another file; nothing was kept"
        )


class _bar:
    """A progress bar with time left; called with the bytes that are there."""

    def __init__(self, remote: Remote, part: _Part) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        shown = console.is_terminal and (part.total is None or part.total >= _SHOWN_FROM)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, disable=not shown, transient=True)
        self._task = self._progress.add_task(f"downloading {remote.name}", total=part.total, completed=part.received)

    def __enter__(self) -> _bar:
        self._progress.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._progress.stop()

    def __call__(self, received: int) -> None:
        self._progress.update(self._task, completed=received)


_WORDS: Mapping[int, str] = {
    401: "the server wants a login (401)",
    403: "the server refuses it (403)",
    404: "there is no such file on the server (404)",
}


def _reason(error: Exception | None) -> str:
    """What went wrong in words; an interrupted download goes on when it is asked for again."""
    if isinstance(error, urllib.error.HTTPError):
        return _WORDS.get(error.code, f"the server answers {error.code} {error.reason}")
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(inner, TimeoutError):
        return f"the server was silent for {TIMEOUT:.0f} s; ask again to go on"
    if isinstance(inner, http.client.HTTPException):
        inner = ConnectionError(f"the server broke off ({type(inner).__name__})")
    text = inner.strerror if isinstance(inner, OSError) and inner.strerror else str(inner)
    return f"{text or type(inner).__name__}; ask again to go on"
