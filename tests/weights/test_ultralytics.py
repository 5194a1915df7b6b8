"""Checkpoints of Ultralytics' RT-DETR in both sizes, laid out as they are from random numbers of ours."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from detrofit import build
from detrofit.errors import DetrofitError
from detrofit.weights.foreign import read_foreign
from tests.weights.layouts import ultralytics


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
    theirs = ultralytics(state, size)
    torch.save({"model": theirs, "epoch": -1, "train_args": {"imgsz": 320}}, tmp_path / "anything.pt")
    found = read_foreign(tmp_path / "anything.pt")
    assert found is not None and (found.source, found.model) == ("Ultralytics RT-DETR", f"rtdetr-{size}")
    assert found.state.keys() == state.keys() and found.input_size == (320, 320)
    for name, tensor in state.items():
        torch.testing.assert_close(
            found.state[name], tensor, atol=1e-6, rtol=0, msg=lambda text, at=name: f"{at}: {text}"
        )


def test_a_model_of_other_layers_is_refused(tmp_path: Path) -> None:
    names = ["model.0.stem1.conv.weight", "model.9.enc_score_head.weight", "model.1.attn.weight"]
    torch.save({"model": {name: torch.zeros(1) for name in names}}, tmp_path / "yolo.pt")
    with pytest.raises(DetrofitError, match="a layer of this Ultralytics model is of a kind"):
        read_foreign(tmp_path / "yolo.pt")
