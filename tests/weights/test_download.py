"""Downloads from a real server on this machine: resumed, checked, refused in one line."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from detrofit.errors import DetrofitError
from detrofit.weights import download as downloads
from detrofit.weights.fetch import fetch, is_remote
from tests.weights.server import Files

CONTENT = bytes(range(256)) * 2000
PATH = "/models/a%20b.pth"


@pytest.fixture
def files(online: Files) -> Files:
    online.content[PATH] = CONTENT
    return online


def refusal(weights: str) -> str:
    with pytest.raises(DetrofitError) as caught:
        fetch(weights)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def kept(cache: Path) -> list[str]:
    return [file.name for file in cache.rglob("*") if file.is_file() and not file.name.endswith(".lock")]


def test_a_url_is_downloaded_once(files: Files, weights_cache: Path) -> None:
    url = files.address + PATH
    assert fetch(url).read_bytes() == CONTENT
    assert fetch(url).name == "a_b.pth" and len(files.asked) == 1
    assert kept(weights_cache) == ["a_b.pth"]


@pytest.mark.parametrize("etags", [True, False])
def test_a_broken_connection_is_gone_on_with(files: Files, etags: bool) -> None:
    files.cut, files.etags = 100_000, etags
    assert fetch(files.address + PATH).read_bytes() == CONTENT
    assert [asked for _, _, asked in files.asked] == ["", "bytes=100000-" if etags else ""]


def test_what_an_earlier_start_left_is_gone_on_with(files: Files, weights_cache: Path) -> None:
    files.cut, files.cuts = 200_000, 1
    url = files.address + PATH
    files.content[PATH] = CONTENT
    script = "import sys; from detrofit.weights import download; download._ATTEMPTS = 1; "
    script += "from detrofit.weights.fetch import fetch; fetch(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", script, url], capture_output=True, text=True, timeout=120)
    assert "broke off after 200,000 of 512,000 bytes" in done.stderr
    assert not [name for name in kept(weights_cache) if name == "a_b.pth"]
    assert fetch(url).read_bytes() == CONTENT
    assert files.asked[-1][2] == "bytes=200000-"


def test_a_file_that_changed_meanwhile_is_begun_anew(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    files.cut = 200_000
    monkeypatch.setattr(downloads, "_ATTEMPTS", 1)
    assert "broke off" in refusal(files.address + PATH)
    files.content[PATH] = CONTENT[::-1]
    assert fetch(files.address + PATH).read_bytes() == CONTENT[::-1]


def test_a_server_that_ends_every_answer_early_is_given_up(files: Files, weights_cache: Path) -> None:
    files.cut, files.cuts, files.ranges = 1000, 99, False
    assert "broke off after 1,000 of 512,000 bytes" in refusal(files.address + PATH)
    assert "a_b.pth" not in kept(weights_cache)


def test_the_digest_is_checked(files: Files, weights_cache: Path) -> None:
    right, wrong = hashlib.sha256(CONTENT).hexdigest(), "0" * 64
    assert "as stated: it was damaged" in refusal(f"{files.address}{PATH}#sha256={wrong}")
    assert kept(weights_cache) == []
    assert fetch(f"{files.address}{PATH}#sha256={right.upper()}").read_bytes() == CONTENT
    assert "as stated" in refusal(f"{files.address}{PATH}#sha256={wrong}"), "also of what is cached"


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "wants a login"), (403, "refuses it"), (404, "no such file on the server"), (503, "answers 503")],
)
def test_refusals(files: Files, status: int, words: str) -> None:
    files.status = status
    assert words in refusal(files.address + PATH)


def test_a_silent_server(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    files.silence = 1.5
    monkeypatch.setattr(downloads, "TIMEOUT", 0.3)
    assert "silent" in refusal(files.address + PATH)


def test_nobody_at_that_address(online: Files) -> None:
    assert "cannot be downloaded: Connection refused" in refusal("http://127.0.0.1:9/a.pth")


def test_a_cache_that_cannot_be_written(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DETROFIT_CACHE", str(tmp_path / "file"))
    assert "name another folder with DETROFIT_CACHE" in refusal(files.address + PATH)


def test_a_full_disk_is_told_at_once_and_what_was_kept_is_gone_on_with(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = downloads._Part.add

    def half(part: Any, piece: bytes) -> None:
        real(part, piece[: len(piece) // 2])
        raise downloads._Unkept(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(downloads._Part, "add", half)
        message = refusal(files.address + PATH)
    assert "No space left on device; free space, or name another folder" in message and len(files.asked) == 1
    assert fetch(files.address + PATH).read_bytes() == CONTENT
    assert files.asked[-1][2] == f"bytes={2**17}-"


def test_a_web_page_is_no_weights_and_not_kept(files: Files, weights_cache: Path) -> None:
    files.content[PATH] = b"\n<!DOCTYPE html><title>Sign in</title>"
    assert "sends a web page in its place; check the address" in refusal(files.address + PATH)
    assert kept(weights_cache) == []
    files.content[PATH] = CONTENT
    assert fetch(files.address + PATH).read_bytes() == CONTENT


def test_a_server_that_wants_nothing_of_what_is_kept_to_the_end(files: Files, weights_cache: Path) -> None:
    files.cut, files.cuts, files.unsatisfied_from = 1000, 99, 3000
    assert "answers 416" in refusal(files.address + PATH)
    assert "a_b.pth" not in kept(weights_cache)


def test_the_proxy_of_the_environment_is_used(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", files.address)
    monkeypatch.setattr(urllib.request, "_opener", None)  # which keeps the proxies that it was made with
    files.content["http://weights.invalid/a.pth"] = b"through a proxy"
    assert fetch("http://weights.invalid/a.pth").read_bytes() == b"through a proxy"


def test_urls_as_people_write_them(files: Files) -> None:
    files.content["/m%C3%B6del%20a.pth?x=1"] = CONTENT
    assert fetch(f"{files.address}/mödel a.pth?x=1").name == "mödel_a.pth"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://", "is no URL: it names no server"),
        ("http://a:b/c.pth", "is no URL"),
        ("http://[a/c.pth", "is no URL"),
        ("http://a.invalid/c.pth#sha256:abc", "sha256= and 64 hexadecimal digits"),
        ("http://a.invalid/c.pth#sha256=abc", "sha256= and 64 hexadecimal digits"),
    ],
)
def test_urls_that_are_none(online: Files, url: str, words: str) -> None:
    assert words in refusal(url)


def test_offline_nothing_is_lost_to_a_wrong_digest(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch(files.address + PATH)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE forbids" in refusal(f"{files.address}{PATH}#sha256={'0' * 64}")
    assert fetch(files.address + PATH).read_bytes() == CONTENT


def test_offline(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch(files.address + PATH)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch(files.address + PATH).read_bytes() == CONTENT
    assert "HF_HUB_OFFLINE forbids" in refusal(files.address + "/other.pth")


@pytest.mark.parametrize(
    ("weights", "remote"),
    [
        ("https://a.org/b.pth", True), ("hf:org/name", True), ("hf:org/name@main/x.pth", True), ("org/name", True),
        ("org/rtdetr_v2.1", True), ("runs/best.safetensors", False), ("./org/name", False), ("a/b/c", False),
        ("weights.pth", False), (r"C:\a\b.pth", False), ("none", False),
    ],
)  # fmt: skip
def test_names_and_paths_are_told_apart(weights: str, remote: bool) -> None:
    assert is_remote(weights) is remote


def test_a_path_that_exists_is_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert not is_remote("org/name") and fetch("org/name") == Path("org/name")
    with pytest.raises(DetrofitError, match=r"weights runs/none\.pth do not exist"):
        fetch("runs/none.pth")
    (tmp_path / "org" / "name" / "best.safetensors").touch()
    assert fetch("org/name").name == "best.safetensors", "a run folder"
