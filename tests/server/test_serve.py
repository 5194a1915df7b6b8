"""`detrofit serve` as a process: what it listens on, how it stops, and the mistakes."""

from __future__ import annotations

import json
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from detrofit.cli import main
from tests.server.conftest import encoded
from tests.server.process import served


def post(address: str, content: bytes, **headers: str) -> tuple[int, Any]:
    request = urllib.request.Request(f"{address}/detect", content, {"Content-Type": "image/png", **headers})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_it_serves_many_on_this_machine_and_refuses_the_rest(tmp_path: Path) -> None:
    with served(tmp_path, "--max-megabytes", "1", DETROFIT_TOKEN="open sesame") as server:
        assert server.address.startswith("http://127.0.0.1:"), "other machines do not reach it"
        assert post(server.address, encoded())[0] == 401
        allowed = {"Authorization": "Bearer open sesame"}
        status, answer = post(server.address, bytes(3 << 20), **allowed)
        assert status == 413 and "more than 1,048,576 bytes" in answer["detail"], "seen, though it was still sending"

        pictures = [encoded(colour=colour) for colour in ("white", "silver", "gray")] * 4
        with ThreadPoolExecutor(len(pictures)) as clients:
            answers = list(clients.map(lambda each: post(server.address, each, **allowed), pictures))
        assert [status for status, _ in answers] == [200] * 12
        scores = [found["score"] for _, answer in answers for found in answer["detections"]]
        assert scores == pytest.approx([1.0, 0.75, 0.5] * 4, abs=0.01), "each client gets its own answer"


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent otherwise on Windows")
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_requests_in_work_are_finished_when_it_stops(tmp_path: Path, number: signal.Signals) -> None:
    with served(tmp_path) as server:
        host, port = server.address.removeprefix("http://").split(":")
        picture = encoded()
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            head = f"POST /detect HTTP/1.1\r\nHost: here\r\nConnection: close\r\nContent-Length: {len(picture)}\r\n\r\n"
            connection.sendall(head.encode() + picture[:10])
            time.sleep(0.3)
            server.process.send_signal(number)
            time.sleep(0.3)
            assert server.process.poll() is None, "it waits for the request"
            connection.sendall(picture[10:])
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 200") and b'"score":1.0' in answer
        assert server.process.wait(20) == 0
    assert "Traceback" not in "".join(server.lines)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent otherwise on Windows")
def test_a_second_interruption_cuts_requests_off_in_one_line(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        host, port = server.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(b"POST /detect HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n\r\nhalf a picture")
            time.sleep(0.3)
            for _ in range(2):
                server.process.send_signal(signal.SIGINT)
                time.sleep(0.3)
            assert server.process.wait(20) == 130
    assert server.lines == ["interrupted\n"]


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line about a user's mistake."""
    assert main(["serve", *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(tmp_path / "absent.onnx")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"cannot listen on 127.0.0.1:{port}" in mistake(capsys, file, "--port", port)
    assert "there is no host 'nowhere.invalid'" in mistake(capsys, file, "--host", "nowhere.invalid")
    assert "no model file at" in mistake(capsys, file, "--port", "0")
    for token in ("sésame", "", " sesame", "open\nsesame"):
        assert "the token must be of ASCII" in mistake(capsys, file, "--token", token)
    monkeypatch.setenv("DETROFIT_TOKEN", "")
    assert "DETROFIT_TOKEN is empty, which would ask nobody" in mistake(capsys, file)
    assert "--max-megabytes" in mistake(capsys, file, "--max-megabytes", "0")


def test_without_the_extra_the_line_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("detrofit.server.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert 'pip install "detrofit[serve]"' in mistake(capsys, str(tmp_path / "a.onnx"), "--port", "0")
