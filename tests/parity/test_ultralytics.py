"""Ultralytics' RT-DETR-L against ours, from names, shapes and outputs alone, and its real pickle of objects."""

from __future__ import annotations

import json
import lzma
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from detrofit import build
from detrofit.weights.ultralytics import from_ultralytics

from .fixtures import FOLDER, procedural

RECORDS = sorted(FOLDER.glob("ultralytics_rtdetr_*_proc.json")) if FOLDER.is_dir() else []
PICKLES = sorted(FOLDER.glob("ultralytics_rtdetr_*.pt.xz")) if FOLDER.is_dir() else []
ABSENT = [pytest.param(None, marks=pytest.mark.skip(reason="no such fixture; DETROFIT_FIXTURES names the folder"))]


def paired(ours: Tensor, theirs: Tensor) -> Tensor:
    """For each row of theirs the index of our row nearest to it: rows of almost equal scores may change places."""
    return torch.from_numpy(linear_sum_assignment(torch.cdist(theirs, ours).numpy())[1])


@pytest.mark.parametrize("file", RECORDS or ABSENT, ids=lambda file: getattr(file, "stem", "absent"))
@torch.no_grad()
def test_outputs_are_equal(file: Path) -> None:
    record: dict[str, Any] = json.loads(file.read_text("utf-8"))
    state, size = procedural().fill_state(record["state"].items(), record["salt"]), file.stem.split("_")[2]
    if size not in ("l", "x"):
        pytest.skip(f"weights of Ultralytics' RT-DETR-{size} are not read here")
    model = build(f"rtdetr-{size}", num_classes=record["nc"])
    model.load_state_dict(from_ultralytics(state))
    model.eval()
    side = record["imgsz"]
    output = model(procedural().tensor("input", (1, 3, side, side), record["salt"], 0, 1)).prediction

    expected = load_file(file.with_suffix(".safetensors"))
    ours = torch.cat([output.boxes[0], output.logits[0]], dim=1)
    theirs = torch.cat([expected["out/boxes"][0], expected["out/logits"][0]], dim=1)
    torch.testing.assert_close(ours[paired(ours, theirs)], theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("file", RECORDS or ABSENT, ids=lambda file: getattr(file, "stem", "absent"))
def test_its_larger_eps_matters(file: Path) -> None:
    record = json.loads(file.read_text("utf-8"))
    name, shape = next((name, shape) for name, shape in record["state"].items() if name.endswith("running_var"))
    tensor = torch.full(shape, 0.01)
    given = {name: tensor, name.replace("bn.running_var", "conv.weight"): torch.zeros(1)}
    ours = from_ultralytics(given)["backbone.stem.conv1.norm.running_var"]
    torch.testing.assert_close(ours + 1e-5, tensor + 1e-3)


@pytest.fixture(params=PICKLES or ABSENT, ids=lambda file: getattr(file, "stem", "absent"))
def pickled(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    file = tmp_path / "renamed.bin"
    file.write_bytes(lzma.decompress(request.param.read_bytes()))
    return file


def test_a_real_pickle_is_read_whole(pickled: Path) -> None:
    from detrofit.weights.archive import read_archive
    from detrofit.weights.pickled_module import module_tensors

    content = read_archive(pickled)
    tensors = module_tensors(content["ema"] or content["model"])
    assert len(tensors) > 900
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            value = (zlib.crc32(name.encode()) % 1000) / 1000
            assert torch.equal(tensor, torch.full_like(tensor, value)), name


def test_a_real_pickle_becomes_a_model_of_the_zoo(pickled: Path) -> None:
    from detrofit.weights.foreign import read_foreign

    found = read_foreign(pickled)
    assert found is not None and found.source == "Ultralytics RT-DETR" and found.model in ("rtdetr-l", "rtdetr-x")
    assert found.class_names is not None and len(found.class_names) == found.num_classes
    assert "AGPL" in found.licence
    assert {tensor.dtype for tensor in found.state.values()} == {torch.float32, torch.int64}
