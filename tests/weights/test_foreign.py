"""Weights of other programs, written to files as their programs write them, and read back by content alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from detrofit import build
from detrofit.errors import DetrofitError
from detrofit.model.detector import RTDETR
from detrofit.weights.coco_names import COCO_NAMES
from detrofit.weights.contents import read_beside
from detrofit.weights.foreign import read_foreign
from detrofit.weights.huggingface import to_huggingface
from tests.weights.layouts import official

CLASSES = 3


@pytest.fixture(scope="module")
def model() -> RTDETR:
    return build("rtdetr-r18", num_classes=CLASSES)


def check(path: Path, model: RTDETR, name: str, source: str) -> None:
    found = read_foreign(path)
    assert found is not None and found.source == source and found.model == name
    own = model.state_dict()
    assert found.state.keys() == own.keys()
    assert all(torch.equal(found.state[key], own[key]) for key in own if not key.endswith("num_batches_tracked"))


@pytest.mark.parametrize("form", ["ema", "model", "plain", "v2", "parallel", "compiled", "old"])
def test_official_checkpoints(model: RTDETR, tmp_path: Path, form: str) -> None:
    state = official(model.state_dict(), version=2 if form == "v2" else 1)
    other = {name: tensor * 0 for name, tensor in state.items()}
    content = {
        "ema": {"model": other, "ema": {"module": state, "updates": 4}, "last_epoch": 3},
        "model": {"model": state, "date": "2024"},
        "parallel": {"model": {f"module.{name}": tensor for name, tensor in state.items()}},
        "compiled": {"state_dict": {f"module._orig_mod.{name}": tensor for name, tensor in state.items()}},
    }.get(form, state)
    file = tmp_path / "any.name"
    torch.save(content, file, _use_new_zipfile_serialization=form != "old")
    version = "v2" if form == "v2" else ""
    check(file, model, f"rtdetr{version}-r18", f"official RT-DETR{version}")


def libreyolo(state: dict[str, Tensor], **metadata: Any) -> dict[str, Any]:
    """A checkpoint with LibreYOLO's metadata, schema 1.0."""
    known = {"schema_version": "1.0", "libreyolo_version": "1.6.0", "model_family": "rtdetr", "size": "r18"}
    known |= {"task": "detect", "nc": 3, "names": {0: "red", 1: "white", 2: "platelet"}, "imgsz": 640}
    return {"model": state, **known, "epoch": 3, "is_ema_weights": True, **metadata}


@pytest.mark.parametrize("family", ["rtdetr", "rtdetrv2"])
def test_libreyolo(model: RTDETR, tmp_path: Path, family: str) -> None:
    state = official(model.state_dict(), version=2 if family == "rtdetrv2" else 1)
    torch.save(libreyolo(state, model_family=family), tmp_path / "best.pt")
    version = family.removeprefix("rtdetr")
    check(tmp_path / "best.pt", model, f"rtdetr{version}-r18", f"LibreYOLO RT-DETR{version}")
    found = read_foreign(tmp_path / "best.pt")
    assert found is not None and found.names == ("red", "white", "platelet")


def test_the_input_size_that_a_file_states(model: RTDETR, tmp_path: Path) -> None:
    for stated, size in {480: (480, 480), 500: (640, 640), "480": (640, 640), 2**40: (640, 640)}.items():
        torch.save(libreyolo(official(model.state_dict()), imgsz=stated), tmp_path / "a.pt")
        found = read_foreign(tmp_path / "a.pt")
        assert found is not None and found.input_size == size


def test_libreyolos_made_up_names_and_other_families(model: RTDETR, tmp_path: Path) -> None:
    state = official(model.state_dict())
    torch.save(libreyolo(state, names={0: "class_0", 1: "class_1", 2: "class_2"}), tmp_path / "a.pt")
    found = read_foreign(tmp_path / "a.pt")
    assert found is not None and found.class_names is None
    torch.save(libreyolo(state, model_family="dfine"), tmp_path / "b.pt")
    with pytest.raises(DetrofitError, match="holds LibreYOLO's 'dfine' for 'detect'"):
        read_foreign(tmp_path / "b.pt")


@pytest.mark.parametrize("form", ["folder", "file", "bin"])
def test_hugging_face(model: RTDETR, tmp_path: Path, form: str) -> None:
    state = {name: tensor.contiguous() for name, tensor in to_huggingface(model.state_dict()).items()}
    folder = tmp_path / "hub"
    folder.mkdir()
    names = {"0": "red", "1": "white", "2": "platelet"}
    config = {"model_type": "rt_detr", "num_queries": 100, "id2label": names}
    if form == "bin":
        torch.save(state, folder / "pytorch_model.bin")
    else:
        save_file(state, folder / "model.safetensors")
    path = folder / "model.safetensors" if form == "file" else folder
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    check(path, model, "rtdetr-r18", "Hugging Face RT-DETR")
    found = read_foreign(path)
    assert found is not None and found.names == ("red", "white", "platelet") and found.settings == {"num_queries": 100}
    assert found.input_size == (640, 640) and found.licence.startswith("not stated in a model card")
    (folder / "preprocessor_config.json").write_text('{"size": {"height": 320, "width": 480}}', "utf-8")
    (folder / "README.md").write_text("---\ntags: [a]\nlicense: cc-by-nc-4.0\n---\n# Cells\n", "utf-8")
    found = read_foreign(path)
    assert found is not None and found.input_size == (320, 480)
    assert found.licence == "cc-by-nc-4.0, as its model card states"


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: 'mit'\n---\n", "mit"),
        ("---\ntags: []\n---\nlicense: mit\n", None),
        ("# A\n\nlicense: mit\n", None),
        ("---\nlicense: " + "x" * 5000 + "\n---\n", None),
        ("---\n" + "a\n" * 200_000, None),
        ("---\nlicense: [\x1b]0;\n---\n", None),
    ],
)
def test_a_licence_is_what_the_head_of_a_model_card_says(tmp_path: Path, card: str, licence: str | None) -> None:
    (tmp_path / "config.json").write_text('{"architecture": "resnet18"}', "utf-8")
    (tmp_path / "README.md").write_text(card, "utf-8")
    assert read_beside(tmp_path).licence == (licence and f"{licence}, as its model card states")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"decoder_offset_scale": 0.3}, "has decoder_offset_scale 0.3, where every model of the zoo has 0.5"),
        ({"encode_proj_layers": [1]}, r"has encode_proj_layers \[1\], where every"),
        ({"num_queries": 10**12}, "num_queries"),
        ({"backbone_config": {"hidden_act": "silu"}}, "has hidden_act 'silu', where every model of the zoo has 'relu'"),
    ],
)
def test_a_configuration_with_other_outputs_is_refused(
    model: RTDETR, tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    save_file({name: tensor.contiguous() for name, tensor in to_huggingface(model.state_dict()).items()},
              tmp_path / "model.safetensors")  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "rt_detr_v2", **changed}), "utf-8")
    with pytest.raises(DetrofitError, match=words):
        read_foreign(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "rt_detr"}), "utf-8")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True}), "utf-8")
    with pytest.raises(DetrofitError, match=r"its preprocessor_config\.json has do_normalize True"):
        read_foreign(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        {"²": "a", "1": "b", "2": "c"},
        {"9" * 5000: "a", "1": "b", "2": "c"},
        ["a", "b", "\x1b]0;c"],
        {0: "a"},
        (1, 2),
        7,
    ],
)
def test_class_names_that_are_none(model: RTDETR, tmp_path: Path, names: Any) -> None:
    torch.save(libreyolo(official(model.state_dict()), names=names), tmp_path / "a.pt")
    found = read_foreign(tmp_path / "a.pt")
    assert found is not None and found.names == ("class 0", "class 1", "class 2")


def test_classes_without_names(model: RTDETR, tmp_path: Path) -> None:
    torch.save(official(model.state_dict()), tmp_path / "three.pth")
    found = read_foreign(tmp_path / "three.pth")
    assert found is not None and found.names == ("class 0", "class 1", "class 2")
    assert len(set(COCO_NAMES)) == 80


def test_content_of_no_known_program_is_none(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(2)}, tmp_path / "a.pth")
    assert read_foreign(tmp_path / "a.pth") is None


def test_other_widths_and_incomplete_checkpoints_are_told_apart(model: RTDETR, tmp_path: Path) -> None:
    state = official(model.state_dict())
    name = "backbone.conv1.conv1_1.conv.weight"
    torch.save({**state, name: torch.zeros(8, 3, 3, 3)}, tmp_path / "narrow.pth")
    with pytest.raises(DetrofitError, match=r"1 tensors differ from rtdetr-r18, first 'backbone\.stem\.conv1"):
        read_foreign(tmp_path / "narrow.pth")
    encoder = {key: tensor for key, tensor in state.items() if not key.startswith("decoder.")}
    torch.save(encoder, tmp_path / "half.pth")
    with pytest.raises(DetrofitError, match="without its decoder"):
        read_foreign(tmp_path / "half.pth")


def test_nothing_readable(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("hello", "utf-8")
    for path, message in ((tmp_path / "text.pt", "no readable checkpoint"), (tmp_path / "none.pt", "do not exist")):
        with pytest.raises(DetrofitError, match=message):
            read_foreign(path)
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 81000000\n"
    (tmp_path / "cloned.safetensors").write_bytes(pointer)
    with pytest.raises(DetrofitError, match=r"Git LFS's pointer to the file; run `git lfs pull`"):
        read_foreign(tmp_path / "cloned.safetensors")
    with pytest.raises(DetrofitError, match=r"has no model\.safetensors"):
        read_foreign(tmp_path)
