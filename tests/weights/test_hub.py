"""Names on the hub, asked for at a server on this machine that answers as the hub does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from detrofit.errors import DetrofitError
from detrofit.weights.contents import read_beside
from detrofit.weights.fetch import fetch
from detrofit.weights.hub import HubName, parse_hub_name, within
from tests.weights.server import Files

WEIGHTS = save({"w": torch.arange(1000.0)})
REPOSITORY = "/org/name/resolve/main/"


@pytest.fixture
def files(online: Files) -> Files:
    config = json.dumps({"model_type": "rt_detr"}).encode()
    online.content |= {REPOSITORY + "model.safetensors": WEIGHTS, REPOSITORY + "config.json": config}
    return online


def refusal(weights: str) -> str:
    with pytest.raises(DetrofitError) as caught:
        fetch(weights)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["hf:org/name", "org/name"])
def test_weights_and_configuration_come_and_stay(files: Files, name: str) -> None:
    files.content[REPOSITORY + "README.md"] = b"---\nlicense: mit\n---\n"
    file = fetch(name)
    assert file.read_bytes() == WEIGHTS and (file.parent / "config.json").is_file()
    assert read_beside(file).licence == "mit, as its model card states", "what belongs to the weights comes with them"
    asked = len(files.asked)
    assert fetch(name) == file and len(files.asked) == asked, "the cache answers without the hub"


def test_what_the_hubs_own_client_has_cached_is_used(files: Files, tmp_path: Path) -> None:
    snapshot = tmp_path / "hub_cache" / "models--org--other" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(WEIGHTS)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    assert fetch("hf:org/other") == snapshot / "model.safetensors"
    assert files.asked == []


def test_other_files_and_revisions(files: Files) -> None:
    files.content["/org/name/resolve/v2/deep/best.pth"] = b"abc"
    assert fetch("hf:org/name@v2/deep/best.pth").read_bytes() == b"abc"
    files.content["/org/old/resolve/main/pytorch_model.bin"] = b"def"
    assert fetch("org/old").read_bytes() == b"def"
    assert "has no model.safetensors or pytorch_model.bin; name a file" in refusal("org/empty")
    assert "has no x.pth" in refusal("hf:org/name/x.pth")


def test_the_hubs_digest_is_checked(files: Files, weights_cache: Path) -> None:
    files.wrong_etag = True
    del files.content[REPOSITORY + "config.json"]
    assert "as stated: it was damaged" in refusal("org/name")
    assert not list(weights_cache.rglob("*.safetensors"))


def test_a_broken_download_is_gone_on_with(files: Files) -> None:
    files.cut, files.cuts = 500, 2
    assert fetch("org/name").read_bytes() == WEIGHTS
    assert ("GET", REPOSITORY + "model.safetensors", "bytes=500-") in files.asked


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (401, "RepoNotFound", "has no hf:org/name, or it is private"),
        (404, "RepoNotFound", "has no hf:org/name, or it is private"),
        (403, "GatedRepo", "asks for consent"),
        (404, "RevisionNotFound", "has no revision 'main'"),
        (500, "", "answers 500"),
    ],
)
def test_refusals(files: Files, status: int, error: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    files.status, files.error = status, error
    message = refusal("org/name")
    assert words in message and (files.address in message)


def test_a_server_that_is_no_hub(online: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9 is not reachable" in refusal("org/name")


def test_offline_is_one_line_and_asks_nobody(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE forbids" in refusal("org/name")
    assert files.asked == []


def test_a_token_is_shown_to_the_hub_alone(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch("org/name")
    assert set(files.authorisations) == {"Bearer hf_secret"}
    files.content["/elsewhere.pth"] = b"x"
    files.authorisations.clear()
    fetch(files.address + "/elsewhere.pth")
    assert files.authorisations == [None]


def test_a_silent_name_server_is_not_waited_for() -> None:
    import time

    with pytest.raises(TimeoutError, match="no answer"):
        within(0.05, lambda: time.sleep(1))
    with pytest.raises(KeyError):
        within(5, lambda: {}["x"])
    assert within(5, lambda: 3) == 3


def test_names() -> None:
    assert parse_hub_name("hf:a/b@v1/c/d.pth") == HubName("a/b", "v1", "c/d.pth")
    assert str(HubName("a/b", "v1", "c.pth")) == "hf:a/b@v1/c.pth" and str(HubName("a/b")) == "hf:a/b"
    assert parse_hub_name("a/b.pth") is None and parse_hub_name("hf:a") is None


@pytest.mark.parametrize("name", ["hf:a--b/c", "hf:-a/b", "a/b.git", "hf:a/" + "b" * 100])
def test_names_that_no_repository_has(files: Files, name: str) -> None:
    assert "is no name on the hub: " in refusal(name) and files.asked == []


@pytest.mark.parametrize(
    "name", ["hf:a/b/../../x", "hf:../b", "hf:a/b@../x", "hf:a/b//etc/x", r"hf:a/b/C:\x", "hf:a/b/\0x"]
)
def test_names_that_lead_out_of_a_repository(name: str) -> None:
    with pytest.raises(DetrofitError, match="leads out of a repository"):
        parse_hub_name(name)


def test_a_folder_that_is_not_there_is_told_apart_from_a_name(files: Files) -> None:
    files.status, files.error = 404, "RepoNotFound"
    assert refusal("runs/exp1").startswith("no file or folder is called runs/exp1, and as a name on the hub: ")


def test_the_configuration_comes_with_a_named_weights_file(files: Files) -> None:
    files.content |= {"/org/name/resolve/main/b/" + file: WEIGHTS for file in ("model.safetensors", "config.json")}
    assert (fetch("hf:org/name/b/model.safetensors").parent / "config.json").is_file()
