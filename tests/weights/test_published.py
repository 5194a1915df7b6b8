"""Starting from what is published: what is taken where it can be had, and what is said where it cannot."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save
from torch import Tensor

from detrofit import DetrofitError, build
from detrofit.config.load import load_experiment
from detrofit.config.models import model_names
from detrofit.model.detector import RTDETR
from detrofit.weights import published
from detrofit.weights.fetch import is_remote
from detrofit.weights.model_file import ModelInfo, save_model
from detrofit.weights.published import published_backbone, published_detector
from detrofit.weights.start import Start, load_start, plan_start
from tests.weights.layouts import official_backbone
from tests.weights.server import Files

SETTINGS = {"num_queries": 20, "decoder_layers": 1, "num_denoising": 10}
TIMM = "mobilenetv4_conv_small_050"
HOME = "/org/nano/resolve/main/model.safetensors"


def nano(retrofit: dict[str, Any] | None = None, seed: int = 0) -> RTDETR:
    return build("rtdetr-n", retrofit, num_classes=2, settings=SETTINGS, seed=seed)


def start(model: RTDETR, weights: str = "auto", **options: Any) -> Start:
    return load_start(model, plan_start(model, "rtdetr-n", weights), ("cat", "dog"), **options)


def official_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A narrow ResNet-18-vd as the official ImageNet files have it, with a classifier."""
    names = official_backbone(state)
    return {**{names[name]: tensor for name, tensor in state.items()}, "fc.weight": torch.zeros(10, 8)}


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A table of published weights in which the nano model has an entry too."""
    content = {
        "detectors": {"rtdetr-n": {"source": "hf:org/nano", "licence": "MIT"}},
        "backbones": [],
    }
    monkeypatch.setattr(published, "_table", lambda: content)
    return content


@pytest.fixture
def nano_online(online: Files, tmp_path: Path) -> RTDETR:
    """The model that is served as the published one."""
    model = nano(seed=7)
    info = ModelInfo("rtdetr-n", ("dog", "cat"), (0, 1), (64, 64), trained={"licence": "CC0"})
    save_model(tmp_path / "m.safetensors", model, info)
    online.content[HOME] = (tmp_path / "m.safetensors").read_bytes()
    return model


def same(model: RTDETR, other: RTDETR, beginning: str) -> bool:
    theirs = other.state_dict()
    own = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(beginning)}
    return bool(own) and all(torch.equal(tensor, theirs[name]) for name, tensor in own.items() if name in theirs)


def test_published_weights_are_loaded_and_named(table: dict[str, Any], nano_online: RTDETR) -> None:
    model = nano()
    found = start(model)
    assert found.pretrained == "model" and found.detector and found.licence == "MIT"
    assert found.line.startswith("STARTING FROM COCO weights hf:org/nano (detrofit; licence: MIT): ")
    assert same(model, nano_online, "backbone.") and same(model, nano_online, "encoder.")
    assert start(nano(), require=["backbone"]).report is not None


def test_another_backbone_gets_its_own_weights(
    table: dict[str, Any], nano_online: RTDETR, online: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = timm.create_model(TIMM)
    config = timm.models.get_pretrained_cfg(TIMM)
    online.content[f"/{config.hf_hub_id}/resolve/main/model.safetensors"] = save(whole.state_dict())
    model = nano({"backbone": f"timm:{TIMM}"})
    found = start(model)
    assert found.pretrained == "model" and "COCO weights hf:org/nano" in found.line
    assert f"and ImageNet weights of the backbone hf:{config.hf_hub_id} (timm; licence: apache-2.0)" in found.line
    assert same(model, nano_online, "decoder.layer0.")
    assert torch.equal(model.backbone.net.conv_stem.weight, whole.conv_stem.weight)
    alone = nano({"backbone": f"timm:{TIMM}"})
    assert start(alone, "imagenet").pretrained == "backbone" and not same(alone, nano_online, "decoder.layer0.")


def test_offline_is_quick_and_loud(table: dict[str, Any], online: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = nano({"backbone": f"timm:{TIMM}"})
    before = model.state_dict()["decoder.layer0.linear1.weight"].clone()
    found = start(model)
    assert found.pretrained == "nothing" and found.report is None and online.asked == []
    assert found.line.startswith("STARTING FROM RANDOM NUMBERS (hf:org/nano is in no cache here")
    assert "costs many points of AP" in found.line and "--weights none" in found.line
    assert torch.equal(before, model.state_dict()["decoder.layer0.linear1.weight"])


def test_after_one_failure_nobody_waits_again(table: dict[str, Any], online: Files) -> None:
    model = nano({"backbone": f"timm:{TIMM}"})  # not on the server, nor is the detector
    assert "hf:org/nano has no model.safetensors" in start(model).line
    assert not [path for _, path, _ in online.asked if path.startswith("/timm/")]


def test_an_unreachable_hub_costs_seconds(
    table: dict[str, Any], online: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    online.silence = 30
    monkeypatch.setattr("detrofit.weights.hub._SECONDS", {"short": 0.2})
    began = time.monotonic()
    assert "is not reachable" in start(nano()).line
    assert time.monotonic() - began < 10


def test_a_model_that_nobody_published_asks_nobody(online: Files) -> None:
    found = start(nano())
    assert "nobody published weights of rtdetr-n" in found.line and online.asked == []


@pytest.mark.parametrize("word", ["none", "scratch", None])
def test_random_numbers_on_purpose(word: str | None) -> None:
    experiment = load_experiment({"model": "rtdetr-n", "data": "x", "weights": word})
    found = start(nano(), experiment.weights)
    assert found.line == "starting from random numbers, as asked for" and found.pretrained == "nothing"
    with pytest.raises(DetrofitError, match="there are no weights to keep"):
        start(nano(), experiment.weights, require=["backbone"])
    assert load_experiment({"model": "rtdetr-n", "data": "x"}).weights == "auto"


def test_official_imagenet_weights_survive_a_swap_as_far_as_they_can(
    table: dict[str, Any], online: Files, tmp_path: Path
) -> None:
    source = nano(seed=9)
    torch.save(official_names(dict(source.backbone.state_dict())), tmp_path / "r18.pth")
    online.content["/r18.pth"] = (tmp_path / "r18.pth").read_bytes()
    entry = {"part": "resnet-vd", "options": {"depth": 18, "widths": [16, 40, 80, 160]}, "licence": "X"}
    table["backbones"] = [{**entry, "source": online.address + "/r18.pth"}]
    table["detectors"] = {}
    model = nano({"backbone.stage4.block": "extradw"})
    found = start(model)
    assert found.pretrained == "backbone" and "costs some points of AP" in found.line and "licence: X" in found.line
    assert all(same(model, source, f"backbone.{inside}.") for inside in ("stem", "stage1", "stage2", "stage3"))
    assert found.report is not None and any(name.startswith("backbone.stage4.") for name in found.report.fresh)


@pytest.mark.parametrize("weights", ["imagenet", "file"])
def test_backbones_that_nobody_published(tmp_path: Path, weights: str) -> None:
    if weights == "file":
        torch.save(official_names({"stem.conv1.conv.weight": torch.zeros(3, 3, 1, 1)}), tmp_path / "other.pth")
        weights = str(tmp_path / "other.pth")
    with pytest.raises(DetrofitError, match=r"nobody published ImageNet weights|holds another backbone"):
        start(nano(), weights)


def test_the_table_names_models_and_parts_that_exist() -> None:
    named = {name: published_detector(name) for name in model_names()}
    assert {name for name, found in named.items() if found is None} == {"rtdetr-n", "rtdetr-s"}
    assert all(is_remote(found.source) and found.licence == "Apache-2.0" for found in named.values() if found)
    for name in ("rtdetr-r18", "rtdetr-r34", "rtdetr-r50m", "rtdetr-r101", "rtdetr-l", "rtdetr-x", "rtdetr-h"):
        found = published_backbone(_meta(name))
        assert found is not None and is_remote(found.source)
    assert published_backbone(_meta("rtdetr-s")) is None
    assert published_backbone(_meta("rtdetr-s", {"backbone": {"part": "hgnetv2", "size": "h"}})) is not None


def _meta(name: str, retrofit: dict[str, Any] | None = None) -> RTDETR:
    with torch.device("meta"):
        return build(name, retrofit, num_classes=1)


def test_the_page_about_weights_names_every_source() -> None:
    page = (Path(__file__).parents[2] / "docs" / "weights.md").read_text("utf-8")
    for name in model_names():
        found = published_detector(name)
        assert found is None or found.source.rpartition("/")[2] in page, name
