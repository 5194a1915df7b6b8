"""Reading a picture out of a request, never more of it than allowed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, NoReturn

from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile

from detrofit.server.limits import Limits

_DRAINED = 4  # times the limit: what is still read of a request that is too large, for its answer to be seen


async def read_picture(request: Request, limits: Limits) -> bytes:
    """The bytes of the picture: the first file of a form, or else the whole body.

    Raises HTTPException: 413 for more than `limits.body_bytes`, 408 for a body that does not come in time, 400 for a
    form that cannot be read, 422 where there is no picture.
    """
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > limits.body_bytes:
        await _refuse_large(request.receive, limits, sends="expect" not in request.headers)
    bounded = Request(request.scope, _bounded(request.receive, limits))
    try:
        content = await asyncio.wait_for(_content(bounded), limits.body_seconds)
    except (TimeoutError, asyncio.TimeoutError):
        raise HTTPException(408, f"the request did not come within {limits.body_seconds:g} s") from None
    if not content:
        raise HTTPException(422, "the request holds no picture; send its bytes as the body, or as a file of a form")
    return content


async def _content(request: Request) -> bytes:
    if not request.headers.get("content-type", "").lower().startswith("multipart/"):
        return await request.body()
    async with request.form(max_files=1, max_fields=8) as form:
        for _, value in form.multi_items():
            if isinstance(value, UploadFile):
                return await value.read()
    return b""


def _bounded(receive: Any, limits: Limits) -> Any:
    received = 0

    async def bounded_receive() -> Any:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limits.body_bytes:
            await _refuse_large(receive, limits, sends=True)
        return message

    return bounded_receive


async def _refuse_large(receive: Any, limits: Limits, sends: bool) -> NoReturn:
    """Raise 413. A client that sends without asking first would miss the answer, so some more is read of it."""
    if sends:
        with suppress(TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(_drain(receive, _DRAINED * limits.body_bytes), limits.body_seconds)
    raise HTTPException(413, f"the request has more than {limits.body_bytes:,} bytes; send a smaller picture")


async def _drain(receive: Any, most: int) -> None:
    """Read on until the end, `most` bytes, or a second without any."""
    while most > 0:
        message = await asyncio.wait_for(receive(), 1.0)
        most = most - len(message.get("body", b"")) if message.get("more_body") else 0
