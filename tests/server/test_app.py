"""The HTTP interface, without a network."""

from __future__ import annotations

import asyncio
import io
import re
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import strategies as st
from PIL import Image

from detrofit.errors import DetrofitError
from detrofit.runtime.detector import Detector
from detrofit.server.app import PIECE, DrawnPicture, create_app
from detrofit.server.limits import Limits
from detrofit.server.service import Service
from detrofit.tiling import Tiling
from tests.fuzzing import CHANGES, MANY, check, damaged
from tests.server.conftest import encoded, pixels_of

SMALL = Limits(body_bytes=20_000, pixels=10_000, requests=3)


@pytest.fixture
def client(detector: Detector) -> Iterator[TestClient]:
    with TestClient(create_app(detector, SMALL), raise_server_exceptions=True) as client:
        yield client


def test_a_body_and_a_form_get_the_same_json(client: TestClient) -> None:
    picture = encoded((80, 40))
    raw = client.post("/detect", content=picture, headers={"content-type": "image/png"})
    form = client.post("/detect", files={"picture": ("my picture.png", picture, "image/png")})
    assert raw.status_code == form.status_code == 200 and raw.json() == form.json()
    answer = raw.json()
    assert (answer["width"], answer["height"], answer["threshold"]) == (80, 40, 0.5)
    assert [found["name"] for found in answer["detections"]] == ["light", "light"]
    assert answer["detections"][0] == {"label": 1, "name": "light", "score": 0.9, "box": [20, 20, 60, 40]}


def test_the_answer_is_that_of_the_detector(client: TestClient, detector: Detector) -> None:
    picture = encoded((123, 77), "JPEG", "navy")
    found = detector(picture)
    answer = client.post("/detect", content=picture).json()["detections"]
    np.testing.assert_allclose([each["box"] for each in answer], found.boxes_xyxy, atol=0.01)
    np.testing.assert_allclose([each["score"] for each in answer], found.scores, atol=1e-6)


def test_each_request_has_its_threshold(client: TestClient) -> None:
    def count(threshold: object) -> int:
        return len(client.post(f"/detect?threshold={threshold}", content=encoded()).json()["detections"])

    assert [count(threshold) for threshold in (0, 0.06, 0.7, 1)] == [3, 2, 1, 0]
    for wrong in ("-0.1", "1.1", "nan", "inf", "high"):
        assert client.post(f"/detect?threshold={wrong}", content=encoded()).status_code == 422


def test_a_picture_comes_back_where_it_is_asked_for(client: TestClient) -> None:
    picture = encoded((80, 40), colour="gray")
    for arguments in ({"params": {"format": "png"}}, {"headers": {"accept": "image/png"}}):
        answer = client.post("/detect", content=picture, **arguments)
        assert answer.headers["content-type"] == "image/png"
        drawn = pixels_of(answer.content)
        assert drawn.shape == (40, 80, 3) and (drawn != pixels_of(picture)).any()
    assert "json" in client.post("/detect", content=picture, headers={"accept": "*/*"}).headers["content-type"]
    both = {"params": {"format": "json"}, "headers": {"accept": "image/png"}}
    assert "json" in client.post("/detect", content=picture, **both).headers["content-type"]
    assert client.post("/detect?format=tiff", content=picture).status_code == 422


def test_classes_can_be_left_out_of_both_forms(client: TestClient) -> None:
    picture = encoded((80, 40))
    assert client.post("/detect?hide=1", content=picture).json()["detections"] == []
    assert len(client.post("/detect?hide=0&hide=5", content=picture).json()["detections"]) == 2
    whole, bare = (pixels_of(client.post(f"/detect?format=png&hide={n}", content=picture).content) for n in (0, 1))
    assert (bare == pixels_of(picture)).all() and (whole != bare).any()
    assert client.post("/detect?hide=all", content=picture).status_code == 422


def test_a_drawn_picture_keeps_its_place_until_it_is_sent(detector: Detector) -> None:
    content, service = bytes(range(256)) * 4096, Service(detector, SMALL)
    sent: list[bytes] = []

    async def send(message: dict[str, Any]) -> None:
        assert service.in_work == 1, "its memory is still in use"
        sent.append(message.get("body", b""))

    async def answer() -> None:
        with ExitStack() as place:
            place.enter_context(service.admitted())
            response = DrawnPicture(content, place.pop_all())
        await response({"type": "http"}, None, send)  # type: ignore[arg-type]

    asyncio.run(answer())
    assert service.in_work == 0 and b"".join(sent) == content and max(map(len, sent)) == PIECE
    service.close()


def test_a_large_request_is_refused(client: TestClient) -> None:
    large = bytes(SMALL.body_bytes + 1)
    for arguments in ({"content": large}, {"content": iter([large])}, {"files": {"picture": ("a.png", large)}}):
        answer = client.post("/detect", **arguments)
        assert answer.status_code == 413 and "more than 20,000 bytes" in answer.json()["detail"]


def test_many_pixels_are_refused_before_they_are_decoded(client: TestClient) -> None:
    assert client.post("/detect", content=encoded((100, 100))).status_code == 200
    answer = client.post("/detect", content=encoded((101, 100)))
    assert answer.status_code == 422 and "101 x 100 pixels, more than 10,000" in answer.json()["detail"]
    bomb = client.post("/detect", content=_png_that_claims(60_000, 60_000))
    assert bomb.status_code == 422 and "pixels" in bomb.json()["detail"]


def _png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ({"content": b""}, 422, "holds no picture"),
        ({"content": b"no picture"}, 422, "not a picture in a known format"),
        ({"content": encoded()[:60]}, 422, "damaged"),
        ({"content": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"}, 422, "not a picture in a known format"),
        ({"data": {"picture": "text"}}, 422, "not a picture"),
        ({"files": {"a": ("a.png", b"")}}, 422, "holds no picture"),
        ({"content": b"--x", "headers": {"content-type": "multipart/form-data"}}, 400, "boundary"),
        ({"files": [("a", ("a.png", encoded())), ("b", ("b.png", encoded()))]}, 400, "Too many files"),
    ],
)
def test_what_is_no_picture_is_refused_with_a_reason(
    client: TestClient, arguments: dict[str, object], status: int, words: str
) -> None:
    answer = client.post("/detect", **arguments)  # type: ignore[arg-type]
    assert answer.status_code == status and words in answer.json()["detail"]


def test_one_request_too_many_is_turned_away(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    started, may_end = threading.Event(), threading.Event()
    own = detector.backend

    class Slow:
        def __getattr__(self, name: str) -> object:
            return getattr(own, name)

        def __call__(self, pictures: np.ndarray) -> object:
            started.set()
            assert may_end.wait(20)
            return own(pictures)

    with TestClient(create_app(detector, SMALL)) as client:
        monkeypatch.setattr(detector, "backend", Slow())
        answers: list[int] = []
        senders = [
            threading.Thread(target=lambda: answers.append(client.post("/detect", content=encoded()).status_code))
            for _ in range(SMALL.requests)
        ]
        for sender in senders:
            sender.start()
        service = client.app.state.service  # type: ignore[attr-defined]
        assert started.wait(20)
        while service.in_work < SMALL.requests:
            threading.Event().wait(0.01)
        turned_away = client.post("/detect", content=encoded())
        assert turned_away.status_code == 503 and turned_away.headers["retry-after"] == "1"
        assert "3 requests are worked on" in turned_away.json()["detail"]
        assert client.get("/health").status_code == 200, "the others are answered all the same"
        may_end.set()
        for sender in senders:
            sender.join()
        assert answers == [200] * SMALL.requests
        assert client.post("/detect", content=encoded()).status_code == 200


def test_a_body_that_does_not_come_is_given_up(detector: Detector) -> None:
    async def stalled() -> None:
        app = create_app(detector, Limits(body_seconds=0.05))
        scope = {"type": "http", "method": "POST", "path": "/detect", "headers": [], "query_string": b""}
        sent: list[dict[str, object]] = []

        async def receive() -> object:
            await asyncio.sleep(60)

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        await app({**scope, "http_version": "1.1", "server": ("here", 80)}, receive, send)  # type: ignore[arg-type]
        assert sent[0]["status"] == 408
        app.state.service.close()

    asyncio.run(stalled())


def test_a_large_body_that_trickles_in_is_given_up(detector: Detector) -> None:
    async def trickling() -> None:
        app = create_app(detector, Limits(body_bytes=1000, body_seconds=0.1))
        headers = [(b"content-length", b"1000000")]
        scope = {"type": "http", "method": "POST", "path": "/detect", "headers": headers, "query_string": b""}
        sent: list[dict[str, object]] = []

        async def receive() -> object:
            await asyncio.sleep(0.01)
            return {"type": "http.request", "body": b"x", "more_body": True}

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        answered = app({**scope, "http_version": "1.1", "server": ("here", 80)}, receive, send)  # type: ignore[arg-type]
        await asyncio.wait_for(answered, 60)  # it would wait for ever
        assert sent[0]["status"] == 413 and app.state.service.in_work == 0
        app.state.service.close()

    asyncio.run(trickling())


@pytest.mark.parametrize(("own", "expected"), [(None, [3]), (1, [1, 1, 1]), (2, [2, 1])])
def test_no_more_run_at_once_than_the_file_takes(
    detector: Detector, monkeypatch: pytest.MonkeyPatch, own: int | None, expected: list[int]
) -> None:
    monkeypatch.setattr(detector.backend, "batch", own)
    service = Service(detector, Limits(gather_seconds=0.2))
    picture = np.zeros((*detector.backend.input_size, 3), np.uint8)
    answers = [service._batcher.submit(picture) for _ in range(3)]
    assert [len(answer.result(20)) for answer in answers] == [3, 3, 3]
    assert detector.backend.batch_sizes == expected  # type: ignore[attr-defined]
    service.close()


def test_the_token_guards_pictures_and_metrics(detector: Detector) -> None:
    with TestClient(create_app(detector, token="open sesame")) as client:
        for headers in (
            {},
            {"authorization": "Bearer other"},
            {"authorization": "Bearer s\u00e9same".encode("latin-1")},
        ):
            answer = client.post("/detect", content=encoded(), headers=headers)  # type: ignore[arg-type]
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
            assert client.get("/metrics", headers=headers).status_code == 401  # type: ignore[arg-type]
        allowed = {"authorization": "Bearer open sesame"}
        assert client.post("/detect", content=encoded(), headers=allowed).status_code == 200
        assert client.get("/metrics", headers=allowed).status_code == 200
        assert client.get("/health").status_code == client.get("/").status_code == 200


def test_bounds_of_nothing_and_tiles_are_mistakes(detector: Detector) -> None:
    with pytest.raises(DetrofitError, match="requests is 0; give 1 or more"):
        Limits(requests=0)
    tiled = Detector(detector.file, tiling=Tiling(64, 16))
    with pytest.raises(DetrofitError, match="no use for tiles"):
        create_app(tiled)


def test_health_says_what_runs(client: TestClient) -> None:
    health = client.get("/health").json()
    assert health["status"] == "ok" and health["model"] == "best.fake"
    assert health["class_names"] == ["dark", "light"] and (health["input_width"], health["input_height"]) == (48, 32)
    assert (health["max_body_bytes"], health["max_pixels"], health["threshold"]) == (20_000, 10_000, 0.5)


def test_metrics_count_requests_batches_and_seconds(client: TestClient) -> None:
    client.post("/detect", content=encoded())
    client.post("/detect", content=b"none")
    client.get("/nowhere/" + "x" * 50)
    text = client.get("/metrics").text
    for line in (
        'detrofit_requests_total{route="/detect",status="200"} 1.0',
        'detrofit_requests_total{route="/detect",status="422"} 1.0',
        'detrofit_requests_total{route="other",status="404"} 1.0',
        "detrofit_detect_seconds_count 2.0",
        'detrofit_batch_size_bucket{le="1.0"} 2.0',  # with the one that warmed it up
        "detrofit_queue_length 0.0",
        "detrofit_requests_in_work 0.0",
    ):
        assert line in text.splitlines()


def test_openapi_tells_both_ways_to_send_a_picture(client: TestClient) -> None:
    path = client.get("/openapi.json").json()["paths"]["/detect"]["post"]
    assert set(path["requestBody"]["content"]) == {"image/*", "multipart/form-data"}
    assert {"200", "401", "413", "422", "503"} <= set(path["responses"])
    assert {each["name"] for each in path["parameters"]} == {"threshold", "format", "hide"}


def test_the_page_is_self_contained(client: TestClient) -> None:
    answer = client.get("/")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert set(re.findall(r"https?://[\w.]+", answer.text)) == {"http://www.w3.org"}, (
        "the name of a format, not asked for"
    )
    assert client.get("/docs").status_code == 404


@pytest.mark.parametrize("examples", [50, MANY])
def test_damaged_pictures_get_clean_answers(client: TestClient, examples: int) -> None:
    pictures = [encoded((9, 7), form) for form in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")]

    @check(examples, st.sampled_from(pictures), CHANGES, st.integers(1, 5000), st.sampled_from(["json", "png"]))
    def _(picture: bytes, changes: list[tuple[int, bytes]], length: int, form: str) -> None:
        answer = client.post(f"/detect?format={form}", content=damaged(picture, changes, length))
        assert answer.status_code in (200, 422)
        if answer.status_code == 422:
            assert "\n" not in answer.json()["detail"]


@pytest.mark.parametrize("examples", [50, MANY])
def test_any_request_gets_a_clean_answer(client: TestClient, examples: int) -> None:
    kinds = st.sampled_from(
        ["", "image/png", "multipart/form-data; boundary=x", "multipart/form-data", 'text/plain; charset="', "/;=", "é"]
    )
    queries = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=30)

    @check(examples, st.binary(max_size=200), kinds, queries)
    def _(body: bytes, kind: str, query: str) -> None:
        part = b"--x\r\nContent-Disposition: form-data; " + body + b"\r\n\r\n\r\n--x--"
        headers = {"content-type": kind.encode("latin-1")}
        answer = client.post("/detect", params=query, content=part if "boundary" in kind else body, headers=headers)
        assert answer.status_code in (200, 400, 422) and answer.json()


def test_a_picture_at_the_largest_size_still_fits_the_batch(client: TestClient) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (10_000, 1)).save(stream, "PNG")
    assert client.post("/detect", content=stream.getvalue()).json()["width"] == 10_000
