"""Listening on an address until somebody asks to stop."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import uvicorn

from detrofit.errors import DetrofitError
from detrofit.server.patience import patient_for

_GRACE_SECONDS = 30  # that requests in work have when the server stops
_HEAD_SECONDS = 30.0  # that a connection has until it asks for something


def open_socket(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 is any free one. DetrofitError says why there is none."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError, OverflowError):
        raise DetrofitError(f"there is no host '{host}' to listen on; give 127.0.0.1, or 0.0.0.0 for all") from None
    opened = socket.socket(family, kind, protocol)
    try:
        if sys.platform != "win32":  # there it would let two servers share the port
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(128)
    except PermissionError:
        opened.close()
        raise DetrofitError(f"port {port} needs an administrator; give one from 1024 on with --port") from None
    except OSError as error:
        opened.close()
        reason = error.strerror or str(error)
        raise DetrofitError(f"cannot listen on {host}:{port} ({reason}); give another --port, or 0 for any") from None
    return opened


def is_local(opened: socket.socket) -> bool:
    """Whether only this machine reaches the socket."""
    return ipaddress.ip_address(opened.getsockname()[0].split("%")[0]).is_loopback


def listen(app: Any, opened: socket.socket, announce: Callable[[str], object]) -> None:
    """Serve `app` on a socket until SIGINT or SIGTERM; requests in work are finished then.

    `announce` is told the address once the server answers. KeyboardInterrupt where a second SIGINT cut requests off.
    """
    host, port = opened.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                announce(f"http://{shown}:{port}")

        def handle_exit(self, sig: int, frame: Any) -> None:
            super().handle_exit(sig, frame)
            if self.force_exit:
                log.disabled = True  # or every request that is cut off would be told with its traceback
                asyncio.get_running_loop().call_soon_threadsafe(self.cut_off)

        def cut_off(self) -> None:
            for connection in list(self.server_state.connections):
                connection.transport.abort()  # from Python 3.12 on the loop would wait for it

    log = logging.getLogger("uvicorn.error")
    config = uvicorn.Config(
        app, http=patient_for(_HEAD_SECONDS), log_level="warning", access_log=False, server_header=False,
        timeout_keep_alive=5, timeout_graceful_shutdown=_GRACE_SECONDS,
    )  # fmt: skip
    # uvicorn stops in order, and then raises the signal once more for the handler that was there before.
    before = {each: signal.signal(each, lambda *_: None) for each in (signal.SIGINT, signal.SIGTERM)}
    server = Server(config)
    try:
        server.run(sockets=[opened])
    finally:
        log.disabled = False
        for each, handler in before.items():
            signal.signal(each, handler)
    if server.force_exit:
        raise KeyboardInterrupt
