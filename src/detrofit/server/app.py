"""The HTTP interface of one model: pictures in, detections out."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from importlib import resources
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST as METRICS_TYPE
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from detrofit.errors import DetrofitError
from detrofit.runtime.detector import Detector
from detrofit.server.answers import Answer, Health, answer_of, health_of
from detrofit.server.body import read_picture
from detrofit.server.limits import Limits
from detrofit.server.metrics import CountRequests
from detrofit.server.service import Busy, Service
from detrofit.version import __version__

ROUTES = frozenset({"/", "/detect", "/health", "/metrics", "/openapi.json"})
THRESHOLD = "Lowest score of what is answered; default: the model file's own."
FORMAT = "json, or png for the picture with the boxes on it; default: as the Accept header says."
HIDE = "Number of a class to leave out; may be given more than once."
PIECE = 1 << 18  # bytes of a picture that are sent at a time
_PICTURE = {"type": "string", "format": "binary"}
_FORM = {"type": "object", "properties": {"picture": _PICTURE}, "required": ["picture"]}
PICTURE_BODY = {
    "requestBody": {
        "required": True,
        "content": {"image/*": {"schema": _PICTURE}, "multipart/form-data": {"schema": _FORM}},
    }
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {"schema": _PICTURE}}},
    401: {"description": "The token is missing or wrong."},
    408: {"description": "The request did not come in time."},
    413: {"description": "The request is too large."},
    422: {"description": "The picture cannot be read or has too many pixels, or a parameter is wrong."},
    503: {"description": "Too many requests; Retry-After says when to come again."},
}
CLIENT_LEFT = 499  # as nginx counts it; nobody sees it
# The page asks nobody but this server for anything, and is in no other page's frame.
PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src blob: data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


def create_app(detector: Detector, limits: Limits = Limits(), token: str | None = None) -> FastAPI:  # noqa: B008
    """The application that serves `detector`; with a `token`, detection and metrics only to requests that bring it."""
    service = Service(detector, limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(service.warm_up)
        yield
        await asyncio.to_thread(service.close)

    # No pages about the interface: those of the framework load scripts from elsewhere. /openapi.json says it all.
    app = FastAPI(title="Detrofit", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(CountRequests, metrics=service.metrics, routes=ROUTES, timed_route="/detect")
    app.state.service = service
    guard = Depends(_token_check(token))
    _add_detect(app, service, guard)
    _add_pages(app, service, guard)
    return app


def _add_detect(app: FastAPI, service: Service, guard: Any) -> None:
    detector, limits = service.detector, service.limits

    @app.post("/detect", response_model=Answer, responses=RESPONSES, openapi_extra=PICTURE_BODY, dependencies=[guard])
    async def detect(
        request: Request,
        threshold: Annotated[float | None, Query(ge=0, le=1, allow_inf_nan=False, description=THRESHOLD)] = None,
        form: Annotated[Literal["json", "png"] | None, Query(alias="format", description=FORMAT)] = None,
        hide: Annotated[list[int], Query(description=HIDE)] = [],  # noqa: B006 - FastAPI copies it
    ) -> Any:
        """Find the objects in a picture: the body itself, or the first file of a form."""
        lowest = detector.threshold if threshold is None else threshold
        try:
            with ExitStack() as place:
                place.enter_context(service.admitted())
                content = await read_picture(request, limits)
                found = (await service.detect(content, lowest)).without(hide)
                if form == "png" or (form is None and _wants_png(request)):
                    return DrawnPicture(await service.draw(content, found), place.pop_all())
                return answer_of(found, lowest)
        except Busy:
            reason = f"{limits.requests} requests are worked on already; try again in a second"
            raise HTTPException(503, reason, {"Retry-After": "1"}) from None
        except DetrofitError as error:
            raise HTTPException(422, str(error)) from None
        except ClientDisconnect:
            return Response(status_code=CLIENT_LEFT)


def _add_pages(app: FastAPI, service: Service, guard: Any) -> None:
    page = resources.files("detrofit.server").joinpath("page.html").read_text(encoding="utf-8")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": PAGE_POLICY, "Referrer-Policy": "no-referrer"})

    @app.get("/health", response_model=Health)
    async def health() -> Health:
        """What runs here, and that it does."""
        return health_of(service.detector, service.limits)

    @app.get("/metrics", response_class=PlainTextResponse, dependencies=[guard])
    async def metrics() -> Response:
        """Numbers for Prometheus."""
        return Response(service.metrics.text(), media_type=METRICS_TYPE)


class DrawnPicture(Response):
    """A PNG that is sent as fast as it is read; until then its request keeps its place, as the picture its memory."""

    media_type = "image/png"

    def __init__(self, content: bytes, place: ExitStack) -> None:
        super().__init__(content)
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._place:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for start in range(0, len(self.body), PIECE):
                more = start + PIECE < len(self.body)
                await send({"type": "http.response.body", "body": self.body[start : start + PIECE], "more_body": more})


def _wants_png(request: Request) -> bool:
    accepted = request.headers.get("accept", "")
    return "image/png" in accepted and "application/json" not in accepted


def _token_check(token: str | None) -> Callable[[Request], None]:
    """A dependency that raises 401 unless the request brings the token; compared in constant time."""
    expected = f"Bearer {token}".encode()

    def check(request: Request) -> None:
        given = request.headers.get("authorization", "").encode("latin-1")
        if token is not None and not hmac.compare_digest(given, expected):
            reason = "this server asks for its token: Authorization: Bearer TOKEN"
            raise HTTPException(401, reason, {"WWW-Authenticate": "Bearer"})

    return check
