"""Checkpoints of Ultralytics' RT-DETR in both sizes, laid out as they are from random numbers of ours."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from detrofit import build
from detrofit.errors import DetrofitError
from detrofit.weights.foreign import read_foreign

# Positions in the list of layers, where concatenations and resampling have a number and no weights.
HEADS = {
    "input_projection.stride32": 0, "attention.layer0": 1, "fusion.lateral.stride32": 2, "input_projection.stride16": 4,
    "fusion.top_down.stride16": 6, "fusion.lateral.stride16": 7, "input_projection.stride8": 9,
    "fusion.top_down.stride8": 11, "fusion.downsample.stride16": 12, "fusion.bottom_up.stride16": 14,
    "fusion.downsample.stride32": 15, "fusion.bottom_up.stride32": 17,
}  # fmt: skip
BLOCKS = {"l": (1, 1, 3, 1), "x": (1, 2, 5, 2)}
INSIDE = [
    (r"^convs\.(\d)\.pointwise\.", r"m.\1.conv1."),
    (r"^convs\.(\d)\.depthwise\.", r"m.\1.conv2."),
    (r"^convs\.(\d)\.", r"m.\1."),
    (r"^squeeze\.", "sc."),
    (r"^excite\.", "ec."),
    (r"^blocks\.(\d)\.conv3\.", r"m.\1.c1."),
    (r"^blocks\.(\d)\.conv1\.", r"m.\1.conv2."),
    (r"\.c1\.", ".conv1."),
    (r"^attention\.", "ma."),
    (r"^linear(\d)\.", r"fc\1."),
]
DECODER = [
    (r"^input_projection\.stride8\.", "input_proj.0."),
    (r"^input_projection\.stride16\.", "input_proj.1."),
    (r"^input_projection\.stride32\.", "input_proj.2."),
    (r"^(input_proj\.\d\.)conv", r"\g<1>0"),
    (r"^(input_proj\.\d\.)norm", r"\g<1>1"),
    (r"^query_selection\.projection", "enc_output.0"),
    (r"^query_selection\.norm", "enc_output.1"),
    (r"^query_selection\.score_head", "enc_score_head"),
    (r"^query_selection\.box_head", "enc_bbox_head"),
    (r"^(score|box)_head\.layer(\d)", lambda match: f"dec_{'bbox' if match[1] == 'box' else 'score'}_head.{match[2]}"),
    (r"^layer(\d)\.", r"decoder.layers.\1."),
    (r"self_attention", "self_attn"),
    (r"cross_attention", "cross_attn"),
    (r"(value|output)_projection", r"\1_proj"),
    (r"^query_position", "query_pos_head"),
    (r"^denoising\.embedding", "denoising_class_embed"),
]


def layers(size: str) -> dict[str, int]:
    """The position in the list of each of our places."""
    places, position = {"backbone.stem": 0}, 1
    for stage, blocks in enumerate(BLOCKS[size], start=1):
        if stage > 1:
            places[f"backbone.stage{stage}.downsample"], position = position, position + 1
        for block in range(blocks):
            places[f"backbone.stage{stage}.block{block}"], position = position, position + 1
    places |= {f"encoder.{place}": position + offset for place, offset in HEADS.items()}
    return places | {"decoder": position + 18}


def laid_out(state: dict[str, Tensor], size: str) -> dict[str, Tensor]:
    """A state of ours with names, order and eps of theirs; their denoising embedding has no row for padding."""
    found: list[tuple[int, str, Tensor]] = []
    for name, tensor in state.items():
        place, position = next(item for item in layers(size).items() if name.startswith(f"{item[0]}."))
        inside = name.removeprefix(f"{place}.")
        for pattern, replacement in DECODER if place == "decoder" else INSIDE:
            inside = re.sub(pattern, replacement, inside)
        if place not in ("decoder", "encoder.attention.layer0"):
            inside = inside.replace("norm.", "bn.")
        inside = re.sub(r"^conv(\d[ab]?)\.", r"stem\1." if place == "backbone.stem" else r"cv\1.", inside)
        if name.endswith("running_var"):
            tensor = tensor - (1e-3 - 1e-5)
        if name == "decoder.denoising.embedding.weight":
            tensor = tensor[:-1]
        found.append((position, f"model.{position}.{inside}", tensor))
    return {name: tensor for _, name, tensor in sorted(found, key=lambda item: item[0])}


@pytest.mark.parametrize("size", ["l", pytest.param("x", marks=pytest.mark.slow)])
def test_each_tensor_finds_its_place(tmp_path: Path, size: str) -> None:
    with torch.device("meta"):
        shapes = build(f"rtdetr-{size}", num_classes=5).state_dict()
    generator = torch.Generator().manual_seed(0)
    state = {
        name: torch.rand(tensor.shape, generator=generator) + 1 if tensor.is_floating_point() else torch.tensor(7)
        for name, tensor in shapes.items()
    }
    state["decoder.denoising.embedding.weight"][-1] = 0
    theirs = laid_out(state, size)
    torch.save({"model": theirs, "epoch": -1}, tmp_path / "anything.pt")
    found = read_foreign(tmp_path / "anything.pt")
    assert found is not None and (found.source, found.model) == ("Ultralytics RT-DETR", f"rtdetr-{size}")
    assert found.state.keys() == state.keys()
    for name, tensor in state.items():
        torch.testing.assert_close(
            found.state[name], tensor, atol=1e-6, rtol=0, msg=lambda text, at=name: f"{at}: {text}"
        )


def test_a_model_of_other_layers_is_refused(tmp_path: Path) -> None:
    names = ["model.0.stem1.conv.weight", "model.9.enc_score_head.weight", "model.1.attn.weight"]
    torch.save({"model": {name: torch.zeros(1) for name in names}}, tmp_path / "yolo.pt")
    with pytest.raises(DetrofitError, match="a layer of this Ultralytics model is of a kind"):
        read_foreign(tmp_path / "yolo.pt")
