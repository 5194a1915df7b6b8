from __future__ import annotations

import json
import pickle
import struct
import sys
import warnings

import numpy as np
import pytest
import safetensors.torch
import torch

from detrofit import Detector, DetrofitError, build
from detrofit.cli.app import main
from detrofit.parts import registry
from detrofit.parts.registry import all_parts
from detrofit.weights.model_file import ModelInfo, is_model_file, load_model, read_info, save_model

INFO = ModelInfo("rtdetr-n", ("cat", "dog", "猫头鹰"), (3, 7, 90), (64, 96), 0.4, {"seed": 1})
SETTINGS = {"num_queries": 20, "decoder_layers": 1, "num_denoising": 10}
RETROFIT = {
    "backbone.stage4.block": {"part": "extradw", "expand": 2.0, "at": {"shortcut": "vd"}},
    "backbone.stage3.block1": "ffn",
    "loss.box": {"part": "shape-nwd", "form": "mix", "at": {"weight": 1.5}},
}
PLUGIN = """
from torch import nn
from detrofit import part
from detrofit.parts.slots import STAGE_ATTENTION

@part("my-identity", fits=[STAGE_ATTENTION])
class MyIdentity(nn.Identity):
    \"\"\"Nothing.\"\"\"

    def __init__(self) -> None:
        super().__init__()
"""


@pytest.fixture(scope="module")
def model():
    return build("rtdetr-n", RETROFIT, num_classes=3, settings=SETTINGS, seed=1).eval()


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "with space.safetensors"
    save_model(path, model, INFO)
    return path


def test_a_model_comes_back_with_all_it_was(model, file):
    again = load_model(file)
    assert not again.training and again.slots == model.slots and again.frame == model.frame
    assert again.retrofit == model.retrofit
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(again(image).prediction.logits, model(image).prediction.logits)
    assert again.criterion.weights == model.criterion.weights
    assert read_info(file) == INFO


@pytest.mark.skipif(sys.platform == "win32", reason="files have no such permissions on Windows")
def test_whoever_may_read_other_files_may_read_a_model_file(file, tmp_path):
    other = tmp_path / "other"
    other.touch()
    assert file.stat().st_mode == other.stat().st_mode


def test_a_file_knows_nothing_of_where_it_was_made(file):
    with safetensors.safe_open(file, "pt") as opened:
        text = json.dumps(opened.metadata())
    assert str(file.parent) not in text and "/" not in json.loads(json.loads(text)["detrofit"])["info"]["name"]


def test_the_detector_runs_it(file):
    found = Detector(file, threshold=0.0)(np.zeros((48, 80, 3), np.uint8))
    assert len(found) == 20 * 3
    assert found.class_names == INFO.class_names
    assert (
        found.boxes_xyxy.min() >= 0 and found.boxes_xyxy[:, 0::2].max() <= 80 and found.boxes_xyxy[:, 1::2].max() <= 48
    )


@pytest.fixture
def with_plugin(tmp_path, monkeypatch):
    """A model file that needs a part of a plug-in, which is then forgotten."""
    list(all_parts())
    monkeypatch.setattr(registry, "_PARTS", dict(registry._PARTS))
    plugin, file = tmp_path / "my_part.py", tmp_path / "model.safetensors"
    plugin.write_text(PLUGIN)
    changed = build(
        "rtdetr-n", {"backbone.stage4.attention": "my-identity"}, num_classes=3, settings=SETTINGS, plugins=[plugin]
    )
    save_model(file, changed, INFO)
    del registry._PARTS["my-identity"]
    for name in [name for name in sys.modules if name.startswith("detrofit_plugin_")]:
        del sys.modules[name]
    return file, plugin


def test_a_missing_part_is_named_with_the_remedy(with_plugin):
    file, _ = with_plugin
    with pytest.raises(DetrofitError, match=r"needs the part 'my-identity' from my_part\.py: give it with --plugin"):
        load_model(file)


def test_a_changed_part_warns_and_the_same_does_not(with_plugin):
    file, plugin = with_plugin
    plugin.write_text(PLUGIN + "\n# another version\n")
    with pytest.warns(UserWarning, match="part 'my-identity' differs from the one"):
        load_model(file, plugins=[plugin])


def test_commands_tell_of_a_changed_part_in_one_line(with_plugin, capsys):
    file, plugin = with_plugin
    plugin.write_text(PLUGIN + "\n# a third version\n")
    assert main(["weights", "card", str(file), "--plugin", str(plugin)]) == 0
    told = capsys.readouterr().err
    assert told.startswith(f"warning: part 'my-identity' differs from the one that {file} was made with")
    assert told.count("\n") == 1


def test_a_file_of_a_newer_format_says_which_version_reads_it(file, tmp_path):
    newer = tmp_path / "newer.safetensors"
    safetensors.torch.save_file({}, newer, {"detrofit": json.dumps({"format": 99, "detrofit": "9.9"})})
    with pytest.raises(DetrofitError, match=r"was written by Detrofit 9\.9; update"):
        load_model(newer)


def damaged(kind: str, good: bytes) -> bytes:
    return {
        "empty": b"",
        "text": b"not a model",
        "truncated": good[: len(good) // 2],
        "lying header": struct.pack("<Q", 1 << 60) + good[8:],
        "pickle": pickle.dumps({"a": 1}),
        "foreign": safetensors.torch.save({"a": torch.zeros(1)}),
        "spoilt description": safetensors.torch.save({}, {"detrofit": "{"}),
    }[kind]


@pytest.mark.parametrize(
    "kind", ["empty", "text", "truncated", "lying header", "pickle", "foreign", "spoilt description"]
)
def test_anything_else_is_refused_in_one_line(file, tmp_path, kind):
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(damaged(kind, file.read_bytes()))
    for read in (load_model, read_info):
        with pytest.raises(DetrofitError) as caught:
            read(bad)
        assert "\n" not in str(caught.value) and "bad.safetensors" in str(caught.value)
    assert not is_model_file(tmp_path / "absent.safetensors")


def test_weights_that_do_not_fit_are_refused(file, tmp_path, model):
    state = dict(model.state_dict())
    state["decoder.layer0.norm1.weight"] = torch.ones(3)
    with safetensors.safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    wrong = tmp_path / "wrong.safetensors"
    safetensors.torch.save_file(state, wrong, metadata)
    with pytest.raises(DetrofitError, match=r"describes: 1 tensors, first 'decoder\.layer0\.norm1\.weight'"):
        load_model(wrong)


def test_a_write_that_fails_leaves_the_old_file(file, tmp_path, model, monkeypatch):
    target = tmp_path / "model.safetensors"
    target.write_bytes(b"the old one")

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(DetrofitError, match=r"cannot write .*No space left"):
        save_model(target, model, INFO)
    assert target.read_bytes() == b"the old one" and [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_loading_warns_of_nothing_for_our_own_parts(file):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_model(file)


def rewritten(file, target, **changes):
    """The file with its description changed: lies, where it does not fit the rest."""
    with safetensors.safe_open(file, "pt") as opened:
        description = json.loads(opened.metadata()["detrofit"])
    for path, value in changes.items():
        *sections, key = path.split("__")
        place = description
        for section in sections:
            place = place[section]
        place[key] = value
    safetensors.torch.save_file(safetensors.torch.load_file(file), target, {"detrofit": json.dumps(description)})
    return target


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"info__class_names": ["cat"]}, "3 classes with 1 names"),
        ({"model__num_classes": 4}, "4 classes with 3 names"),
        ({"model__frame": {"hidden_dim": 7}}, "hidden_dim"),
        ({"model__slots": {"nothing.here": "basic"}}, "there is no slot"),
        ({"model__retrofit": 3}, "model.retrofit"),
        ({"parts": None}, "parts"),
        ({"format": "new"}, "format"),
        ({"info__input_size": [2**20, 2**20]}, "an input size of"),
        ({"info__input_size": [100, 64]}, "an input size of"),
        ({"model__frame__hidden_dim": 1024}, "tensors, first 'decoder"),
        ({"model__slots__" + "backbone.stage4.block" + "[1,1,1,1,1,1,1,1,1,1]" * 9: "basic"}, "more addresses at once"),
    ],
)
def test_a_description_that_lies_is_one_line(file, tmp_path, changes, words):
    with pytest.raises(DetrofitError) as caught:
        load_model(rewritten(file, tmp_path / "lie.safetensors", **changes))
    assert words in str(caught.value) and "lie.safetensors" in str(caught.value) and "\n" not in str(caught.value)


def test_a_part_of_ours_under_the_name_of_a_plug_in_warns(file, tmp_path):
    origin = {"source": "my_part.py", "version": "0" * 64}
    with pytest.warns(UserWarning, match=r"part 'extradw' differs .*my_part\.py"):
        load_model(rewritten(file, tmp_path / "other.safetensors", parts__extradw=origin))
