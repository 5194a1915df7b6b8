"""A server on this machine that speaks as much HTTP as downloads need, and misbehaves as it is told."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Files:
    """What the server has and how it behaves; `asked` notes every request with its range.

    `cut` sends so many bytes only, on as many requests as `cuts` says; `status` answers that to all, and 416 to who has
    `unsatisfied_from` bytes; `silence` waits so many seconds first.
    """

    content: dict[str, bytes] = field(default_factory=dict)
    address: str = ""
    etags: bool = True
    ranges: bool = True
    cut: int | None = None
    cuts: int = 1
    status: int | None = None
    unsatisfied_from: int | None = None
    error: str = ""
    silence: float = 0.0
    wrong_etag: bool = False
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    authorisations: list[str | None] = field(default_factory=list)

    def etag(self, content: bytes) -> str:
        """As the hub gives it: the SHA-256."""
        return hashlib.sha256(content + (b"?" if self.wrong_etag else b"")).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    files: Files
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def _answer(self, body: bool) -> None:
        files = self.files
        files.asked.append((self.command, self.path, self.headers.get("Range", "")))
        files.authorisations.append(self.headers.get("Authorization"))
        time.sleep(files.silence)
        content = files.content.get(self.path)
        status = files.status
        if content and files.unsatisfied_from is not None and self._first(content) >= files.unsatisfied_from:
            status = 416
        if status is not None or content is None:
            self.send_response(status or 404)
            if files.error or status is None:
                self.send_header("X-Error-Code", files.error or "EntryNotFound")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        first = self._first(content)
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        if files.etags:
            self.send_header("ETag", f'"{files.etag(content)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        if body:
            self._send(content[first:])

    def _first(self, content: bytes) -> int:
        asked = self.headers.get("Range", "")
        same = self.headers.get("If-Range", "").strip('"') == self.files.etag(content)
        if not (asked and self.files.ranges and same):
            return 0
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def _send(self, content: bytes) -> None:
        if self.files.cut is not None and self.files.cuts > 0:
            self.files.cuts -= 1
            content = content[: self.files.cut]
            self.close_connection = True
        with suppress(ConnectionError):  # of a client that has lost its patience
            self.wfile.write(content)


@contextmanager
def serving(files: Files) -> Iterator[str]:
    """The address under which `files` are served."""
    handler = type("Handler", (_Handler,), {"files": files})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        files.address = f"http://127.0.0.1:{server.server_address[1]}"
        yield files.address
    finally:
        server.shutdown()
        server.server_close()
