"""uvicorn's HTTP protocol with a bound on how long a connection may keep a place without asking for anything."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

_Protocol: Any = AutoHTTPProtocol  # with httptools or h11, whichever is installed


def patient_for(seconds: float) -> type[Any]:
    """A protocol that closes a connection whose next request has not begun `seconds` after its first byte could come.

    uvicorn bounds the time from an answer to the next byte, and no other: connections that say nothing, or send the
    head of a request letter by letter, would each hold a file handle for ever, until there is none for anybody else.
    """

    class Patient(_Protocol):  # type: ignore[misc, unused-ignore]
        _timer: Any = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._await_request()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._await_request()

        def _await_request(self) -> None:
            if self._timer is None and self._is_idle():
                self._timer = self.loop.call_later(seconds, self._look_again, self.cycle)

        def _look_again(self, last: Any) -> None:
            self._timer = None
            if self.cycle is last and self._is_idle():
                self.transport.close()
            else:  # a request came meanwhile; the wait for another one is bounded, too
                self._await_request()

        def _is_idle(self) -> bool:
            return not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete)

    return Patient
