"""What the server tells Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The numbers of one server, in a registry of its own."""

    def __init__(self, waiting: Callable[[], int], in_work: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("detrofit_requests", "Answered requests", ["route", "status"], registry=self.registry)
        self.seconds = Histogram(
            "detrofit_detect_seconds", "From the first byte of a request for detection to the last one of its answer",
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.batch_size = Histogram(
            "detrofit_batch_size", "Pictures that ran at once", buckets=_SIZES, registry=self.registry
        )
        Gauge("detrofit_queue_length", "Pictures that wait for the model", registry=self.registry).set_function(waiting)
        Gauge("detrofit_requests_in_work", "Requests that are worked on", registry=self.registry).set_function(in_work)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)


class CountRequests:
    """ASGI middleware that counts answers by route and status, and times those of `timed_route`."""

    def __init__(self, app: Any, metrics: Metrics, routes: frozenset[str], timed_route: str) -> None:
        self.app, self.metrics, self.routes, self.timed_route = app, metrics, routes, timed_route

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        route = scope["path"] if scope["path"] in self.routes else "other"
        status = 500  # of a request whose answer never started
        started = time.perf_counter()

        async def watch(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watch)
        finally:
            self.metrics.requests.labels(route, str(status)).inc()
            if route == self.timed_route:
                self.metrics.seconds.observe(time.perf_counter() - started)
