"""Connections that ask for nothing, or do not read their answer, do not stay."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import uvicorn

from detrofit.runtime.detector import Detector
from detrofit.server.app import create_app
from detrofit.server.patience import patient_for

REQUEST = b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n"


def test_who_asks_for_nothing_is_sent_away_and_who_asks_stays(detector: Detector) -> None:
    async def clients() -> None:
        with socket.create_server(("127.0.0.1", 0)) as opened:
            app = create_app(detector)
            config = uvicorn.Config(app, http=patient_for(1.0), log_level="error", timeout_keep_alive=20)
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server.serve([opened]))
            ends = await asyncio.gather(*(client(opened, pieces) for pieces in CLIENTS.values()))
            server.should_exit = True
            await serving
        for name, (answers, closed) in zip(CLIENTS, ends):
            assert closed == (name != "asks twice"), name
            assert answers == {"is silent": 0, "stops in a head": 0, "asks twice": 2, "trickles a second head": 1}[name]

    asyncio.run(clients())


# What each sends, every 0.3 seconds a piece.
CLIENTS = {
    "is silent": [],
    "stops in a head": [REQUEST[:20], REQUEST[20:24]],
    "asks twice": [REQUEST, REQUEST],
    "trickles a second head": [REQUEST, *(REQUEST[at : at + 1] for at in range(8))],
}


async def client(opened: socket.socket, pieces: list[bytes]) -> tuple[int, bool]:
    """How many answers there were, and whether the server hung up in the end."""
    reader, writer = await asyncio.open_connection(*opened.getsockname())
    received = b""

    async def read() -> None:
        nonlocal received
        while more := await reader.read(65536):
            received += more

    reading = asyncio.create_task(read())
    for piece in pieces:
        writer.write(piece)
        await asyncio.wait([reading], timeout=0.3)
    done, _ = await asyncio.wait([reading], timeout=0.1 if len(pieces) == 2 and pieces[0] == REQUEST else 5)
    reading.cancel()
    writer.close()
    return received.count(b"HTTP/1.1 200"), bool(done)


def test_who_does_not_read_an_answer_is_cut_off_and_who_reads_slowly_is_not() -> None:
    answer = bytes(24 << 20)  # more than the system takes for a connection

    async def app(scope: Any, receive: Any, send: Any) -> None:
        length = str(len(answer)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": answer})

    async def clients() -> list[bool]:
        with socket.create_server(("127.0.0.1", 0)) as opened:
            config = uvicorn.Config(app, http=patient_for(0.5), log_level="error", lifespan="off", timeout_keep_alive=1)
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server.serve([opened]))
            ends = await asyncio.gather(*(gets_all(opened, len(answer), pause) for pause in (3.0, 0.0)))
            server.should_exit = True
            await serving
        return ends

    assert asyncio.run(clients()) == [False, True]


async def gets_all(opened: socket.socket, wanted: int, pause: float) -> bool:
    """Whether all of an answer arrives that is read after a pause, and with one after each 256 KB of its first half."""
    reader, writer = await asyncio.open_connection(*opened.getsockname(), limit=1 << 16)
    writer.write(REQUEST)
    await asyncio.sleep(pause)
    received = 0
    with contextlib.suppress(ConnectionError):
        while more := await reader.read(1 << 18):
            received += len(more)
            await asyncio.sleep(0.01 if received < wanted // 2 else 0)
    writer.close()
    return received >= wanted
