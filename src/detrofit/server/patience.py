"""uvicorn's HTTP protocol with a bound on how long a connection may keep a place without asking or taking anything."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

_Protocol: Any = AutoHTTPProtocol  # with httptools or h11, whichever is installed


class _CountedTransport:
    """A connection's transport that knows how much of what was written the other side has taken."""

    def __init__(self, transport: Any) -> None:
        self._transport, self._written = transport, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self._written += len(data)
        self._transport.write(data)

    @property
    def taken(self) -> int:
        return self._written - int(self._transport.get_write_buffer_size())


def patient_for(seconds: float) -> type[Any]:
    """A protocol that looks every `seconds` at a connection, and ends one that has not moved since the last look.

    uvicorn bounds the time from an answer to the next byte, and no other: connections that say nothing, or send the
    head of a request letter by letter, would each hold a file handle for ever, until there is none for anybody else;
    and those that do not read their answer would each hold that in memory, closed or not.
    """

    class Patient(_Protocol):  # type: ignore[misc, unused-ignore]
        def connection_made(self, transport: Any) -> None:
            super().connection_made(_CountedTransport(transport))
            self._look_later()

        def connection_lost(self, exc: Exception | None) -> None:
            self._timer.cancel()
            super().connection_lost(exc)

        def _look_later(self) -> None:
            seen = self.cycle, self._is_idle(), self.transport.taken
            self._timer = self.loop.call_later(seconds, self._look_again, *seen)

        def _look_again(self, cycle: Any, was_idle: bool, taken: int) -> None:
            left = self.transport.get_write_buffer_size()
            if self.cycle is cycle and left and self.transport.taken == taken:
                self.transport.abort()  # what is closed would still wait for its reader
            elif self.cycle is cycle and was_idle and self._is_idle():
                self.transport.close()
            if left or not self.transport.is_closing():
                self._look_later()

        def _is_idle(self) -> bool:
            return self.cycle is None or self.cycle.response_complete

    return Patient
