"""What the server takes on at most, so that no request can use up the machine."""

from __future__ import annotations

from dataclasses import dataclass

from detrofit.errors import DetrofitError


@dataclass(frozen=True)
class Limits:
    """The bounds of a server.

    Attributes:
        body_bytes: of one request.
        pixels: of one picture, known from its header before it is decoded.
        requests: that are worked on or wait at once; one more is turned away with 503.
        batch: pictures that run at once, where the model file takes so many.
        gather_seconds: how long the first picture of a batch waits for others.
        body_seconds: that a client may take to send its request.
        decoders: threads that decode and draw pictures; so many of them are in memory at once.
    """

    body_bytes: int = 20 << 20
    pixels: int = 50_000_000
    requests: int = 64
    batch: int = 8
    gather_seconds: float = 0.002
    body_seconds: float = 30.0
    decoders: int = 2

    def __post_init__(self) -> None:
        for name in ("body_bytes", "pixels", "requests", "batch", "decoders"):
            if getattr(self, name) < 1:
                raise DetrofitError(f"the server's {name} is {getattr(self, name)}; give 1 or more")
