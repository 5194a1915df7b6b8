"""Weights of other programs, written to files as their programs write them, and read back by content alone."""

from __future__ import annotations

import json
import re
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
from detrofit.weights.foreign import read_foreign
from detrofit.weights.huggingface import to_huggingface

CLASSES = 3


@pytest.fixture(scope="module")
def model() -> RTDETR:
    return build("rtdetr-r18", num_classes=CLASSES)


def official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of our R18 as the official repository has them."""
    rules = [
        (r"^backbone\.stem\.conv(\d)\.", r"backbone.conv1.conv1_\1."),
        (r"^encoder\.attention\.layer0\.attention\.", "encoder.encoder.0.layers.0.self_attn."),
        (r"^encoder\.attention\.layer0\.", "encoder.encoder.0.layers.0."),
        (r"\.shortcut\.projection\.", ".short.conv."),
        (r"\.shortcut\.", ".short."),
        (r"blocks\.(\d)\.conv3\.", r"bottlenecks.\1.conv1_."),
        (r"blocks\.(\d)\.conv1\.", r"bottlenecks.\1.conv2."),
        (r"conv1_\.", "conv1."),
        (r"fusion\.lateral\.stride32", "lateral_convs.0"),
        (r"fusion\.lateral\.stride16", "lateral_convs.1"),
        (r"fusion\.downsample\.stride16", "downsample_convs.0"),
        (r"fusion\.downsample\.stride32", "downsample_convs.1"),
        (r"fusion\.top_down\.stride16", "fpn_blocks.0"),
        (r"fusion\.top_down\.stride8", "fpn_blocks.1"),
        (r"fusion\.bottom_up\.stride16", "pan_blocks.0"),
        (r"fusion\.bottom_up\.stride32", "pan_blocks.1"),
        (r"decoder\.query_selection\.projection", "decoder.enc_output.0"),
        (r"decoder\.query_selection\.norm", "decoder.enc_output.1"),
        (r"decoder\.query_selection\.score_head", "decoder.enc_score_head"),
        (r"decoder\.query_selection\.box_head", "decoder.enc_bbox_head"),
        (r"decoder\.score_head\.layer", "decoder.dec_score_head."),
        (r"decoder\.box_head\.layer", "decoder.dec_bbox_head."),
        (r"decoder\.layer(\d)\.", r"decoder.decoder.layers.\1."),
        (r"decoder\.query_position", "decoder.query_pos_head"),
        (r"decoder\.denoising\.embedding", "decoder.denoising_class_embed"),
        (r"self_attention\.", "self_attn."),
        (r"cross_attention\.", "cross_attn."),
        (r"value_projection\.", "value_proj."),
        (r"output_projection\.", "output_proj."),
    ]
    renamed = {}
    for name, tensor in state.items():
        for stride, level in (("8", 0), ("16", 1), ("32", 2)):
            name = name.replace(f"input_projection.stride{stride}.", f"input_proj.{level}.")
        name = re.sub(
            r"backbone\.stage(\d)\.block(\d)\.",
            lambda match: f"backbone.res_layers.{int(match[1]) - 1}.blocks.{match[2]}.",
            name,
        )
        if name.startswith("backbone.res"):
            name = name.replace(".conv1.", ".branch2a.").replace(".conv2.", ".branch2b.")
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        renamed[re.sub(r"(encoder\.input_proj\.\d\.)norm", r"\1norm", name)] = tensor
    return renamed


def check(path: Path, model: RTDETR, name: str, source: str) -> None:
    found = read_foreign(path)
    assert found is not None and found.source == source and found.model == name
    own = model.state_dict()
    assert found.state.keys() == own.keys()
    assert all(torch.equal(found.state[key], own[key]) for key in own if not key.endswith("num_batches_tracked"))


@pytest.mark.parametrize("form", ["ema", "model", "plain", "v2", "parallel"])
def test_official_checkpoints(model: RTDETR, tmp_path: Path, form: str) -> None:
    state = official(model.state_dict())
    if form == "v2":
        state = {name.replace("enc_output.0", "enc_output.proj"): tensor for name, tensor in state.items()}
        state = {name.replace("enc_output.1", "enc_output.norm"): tensor for name, tensor in state.items()}
        state["decoder.anchors"] = torch.zeros(1, 4, 4)
    other = {name: tensor * 0 for name, tensor in state.items()}
    content = {
        "ema": {"model": other, "ema": {"module": state, "updates": 4}, "last_epoch": 3},
        "model": {"model": state, "date": "2024"},
        "parallel": {"model": {f"module.{name}": tensor for name, tensor in state.items()}},
    }.get(form, state)
    file = tmp_path / "any.name"
    torch.save(content, file)
    version = "v2" if form == "v2" else ""
    check(file, model, f"rtdetr{version}-r18", f"official RT-DETR{version}")


def libreyolo(state: dict[str, Tensor], **metadata: Any) -> dict[str, Any]:
    """A checkpoint with LibreYOLO's metadata, schema 1.0."""
    known = {"schema_version": "1.0", "libreyolo_version": "1.6.0", "model_family": "rtdetr", "size": "r18"}
    known |= {"task": "detect", "nc": 3, "names": {0: "red", 1: "white", 2: "platelet"}, "imgsz": 640}
    return {"model": state, **known, "epoch": 3, "is_ema_weights": True, **metadata}


@pytest.mark.parametrize("family", ["rtdetr", "rtdetrv2"])
def test_libreyolo(model: RTDETR, tmp_path: Path, family: str) -> None:
    state = official(model.state_dict())
    if family == "rtdetrv2":
        state = {name.replace("enc_output.0", "enc_output.proj"): tensor for name, tensor in state.items()}
        state = {name.replace("enc_output.1", "enc_output.norm"): tensor for name, tensor in state.items()}
        state |= {f"decoder.decoder.layers.{layer}.cross_attn.num_points_scale": torch.ones(12) for layer in range(3)}
        state |= {"decoder.anchors": torch.zeros(1, 4, 4), "decoder.valid_mask": torch.ones(1, 4, 1, dtype=torch.bool)}
    torch.save(libreyolo(state, model_family=family), tmp_path / "best.pt")
    version = family.removeprefix("rtdetr")
    check(tmp_path / "best.pt", model, f"rtdetr{version}-r18", f"LibreYOLO RT-DETR{version}")
    found = read_foreign(tmp_path / "best.pt")
    assert found is not None and found.names == ("red", "white", "platelet")


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
    with pytest.raises(DetrofitError, match=r"has no model\.safetensors"):
        read_foreign(tmp_path)
