"""`detrofit weights`: import, inspect, export, card; and what a training takes over from another program's file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from detrofit import DetrofitError, build
from detrofit.cli.app import main
from detrofit.config.load import load_experiment
from detrofit.model.detector import RTDETR
from detrofit.weights.card import model_card
from detrofit.weights.contents import read_plain
from detrofit.weights.huggingface import to_huggingface
from detrofit.weights.huggingface_folder import write_huggingface
from detrofit.weights.inspect_file import inspect_weights
from detrofit.weights.model_file import ModelInfo, load_model, read_info, save_model
from detrofit.weights.start import load_start, plan_start
from detrofit.weights.transfer_report import transfer_json, transfer_lines

HEAD = "decoder.score_head"
NAMES = ("red", "white", "platelet")
NARROW: dict[str, Any] = {
    "backbone": {"part": "resnet-vd", "depth": 18, "widths": [16, 24, 32, 40]},
    "encoder.attention": {"part": "aifi", "ffn_dim": 48},
}
SETTINGS: dict[str, Any] = {
    "hidden_dim": 32, "decoder_dim": 32, "decoder_ffn_dim": 48, "decoder_layers": 3, "eval_decoder_layers": 2,
    "num_queries": 12,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder of an R18 with three classes."""
    folder = tmp_path_factory.mktemp("hub")
    model = build("rtdetr-r18", num_classes=3)
    state = {name: tensor.contiguous() for name, tensor in to_huggingface(model.state_dict()).items()}
    save_file(state, folder / "model.safetensors")
    config = {"model_type": "rt_detr", "id2label": {str(index): name for index, name in enumerate(NAMES)}}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return folder


def narrow(seed: int = 0, depth: int = 18, **settings: Any) -> RTDETR:
    retrofit = {**NARROW, "backbone": {**NARROW["backbone"], "depth": depth}}
    model = build(f"rtdetr-r{depth}", retrofit, num_classes=3, settings={**SETTINGS, **settings}, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            tensor.normal_(0, 0.2, generator=generator)
    return model.eval()


def start_from(model: RTDETR, folder: Path, class_names: tuple[str, ...], require: list[str]) -> Any:
    return load_start(model, plan_start(model, "rtdetr-r18", str(folder)), class_names, require)


def info(name: str = "rtdetr-r18") -> ModelInfo:
    trained = {"data": "cells", "metrics": {"AP": 0.5}, "licence": "CC0-1.0"}
    return ModelInfo(name, NAMES, (0, 1, 2), (64, 64), trained=trained)


def test_import_and_inspect(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model.safetensors"
    assert main(["weights", "import", str(folder), "--out", str(out)]) == 0
    told = f"Hugging Face RT-DETR {folder.name}, here rtdetr-r18, 3 classes; licence: not stated in a model card; "
    assert told in capsys.readouterr().out
    assert read_info(out).class_names == NAMES
    assert read_info(out).trained["imported_from"] == f"Hugging Face RT-DETR {folder.name}"
    assert "0.500, not chosen for this model" in model_card(out)
    own, given = load_model(out).state_dict(), build("rtdetr-r18", num_classes=3).state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in given.items())
    copy = tmp_path / "copy.safetensors"
    assert main(["weights", "import", str(out), "--out", str(copy)]) == 0 and copy.read_bytes() == out.read_bytes()
    assert main(["weights", "import", str(out), "--out", str(copy), "--set", "num_queries=3"]) == 2
    assert "says all of its model; --set num_queries" in capsys.readouterr().err
    for path in (folder, out):
        assert main(["weights", "inspect", str(path)]) == 0
        shown = capsys.readouterr().out
        assert "rtdetr-r18" in shown and "3: red, white, platelet" in shown
    assert main(["weights", "export", str(folder), str(tmp_path / "again")]) == 0, "from another program's, too"
    given, written = read_plain(folder), read_plain(tmp_path / "again")
    assert all(torch.equal(given[name], tensor) for name, tensor in written.items())
    assert all(name.endswith("num_batches_tracked") for name in given.keys() - written.keys()), "norms are frozen there"
    brackets = tmp_path / "brackets.safetensors"
    model = build("rtdetr-n", num_classes=2)
    save_model(brackets, model, ModelInfo("rtdetr-n", ("[small] car", "[/b]"), (0, 1), (64, 64)))
    assert main(["weights", "inspect", str(brackets)]) == 0
    assert "2: [small] car, [/b]" in capsys.readouterr().out, "no markup"
    renamed = tmp_path / "model.bin"
    renamed.write_bytes(out.read_bytes())
    assert inspect_weights(renamed)["weights of"] == "Detrofit", "told from the content"


@pytest.mark.parametrize(
    ("file", "out", "words"),
    [
        ("a.pth", "b.safetensors", "holds no detector of a known program"),
        ("a.pth", "b.pt", "a model file ends in .safetensors, not as in"),
        ("ours.safetensors", "b.safetensors", "the description in"),
        ("a.safetensors", "a.safetensors", "is what shall be imported"),
        ("none.pth", "b.safetensors", "none.pth do not exist"),
    ],
)
def test_what_cannot_be_imported_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, out: str, words: str
) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pth")
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    save_file({}, tmp_path / "ours.safetensors", {"detrofit": "{}"})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(["weights", "import", str(tmp_path / file), "--out", str(tmp_path / out)]) == 2
    assert words in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_weights_of_a_backbone_are_inspected(tmp_path: Path) -> None:
    torch.save({"conv1.conv1_1.conv.weight": torch.zeros(2, 3)}, tmp_path / "r18.pth")
    facts = inspect_weights(tmp_path / "r18.pth")
    assert facts["weights of"].startswith("an official backbone alone") and facts["tensors"] == "1 with 6 numbers"
    torch.save({"conv_stem.weight": torch.zeros(2)}, tmp_path / "timm.pth")
    facts = inspect_weights(tmp_path / "timm.pth")
    assert facts["weights of"] == "no detector that is known" and facts["begins with"] == "conv_stem.weight"


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("rtdetr-r18", {}),
        ("rtdetrv2-r18", {"sampling": "discrete"}),
        ("rtdetrv2-r50", {"depth": 50, "decoder_dim": 64, "points": [3]}),
    ],
)
@torch.no_grad()
def test_transformers_loads_an_export_with_equal_outputs(tmp_path: Path, name: str, settings: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers")
    model = narrow(**settings)
    save_model(tmp_path / "m.safetensors", model, info(name))
    assert main(["weights", "export", str(tmp_path / "m.safetensors"), str(tmp_path / "hub")]) == 0
    theirs, report = transformers.AutoModelForObjectDetection.from_pretrained(
        tmp_path / "hub", output_loading_info=True
    )
    assert not report["unexpected_keys"] and not report["missing_keys"]
    assert theirs.config.id2label == dict(enumerate(NAMES))
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    output, prediction = theirs.eval()(images), model(images).prediction
    torch.testing.assert_close(output.logits, prediction.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(output.pred_boxes, prediction.boxes, atol=1e-4, rtol=1e-4)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "hub")
    assert processor.size["height"] == 64 and not processor.do_normalize


def test_what_transformers_has_not_is_not_exported(tmp_path: Path) -> None:
    model = build("rtdetr-n", {"backbone.stage4.block": "extradw"}, num_classes=3)
    with pytest.raises(DetrofitError, match=r"transformers' RT-DETR has stock parts only.*backbone\.stage4\.block"):
        write_huggingface(tmp_path / "hub", model, info("rtdetr-n"))
    assert not (tmp_path / "hub").exists()


def test_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cells.safetensors"
    save_model(file, narrow(), info())
    shutil.copy(file, tmp_path / "best.safetensors")
    assert main(["weights", "card", str(tmp_path)]) == 0 and "# best" in capsys.readouterr().out, "a run folder"
    assert main(["weights", "card", str(file), "--out", str(tmp_path / "README.md")]) == 0
    text = (tmp_path / "README.md").read_text("utf-8")
    assert text == model_card(file)
    for phrase in (
        "# cells",
        "3: red, white, platelet",
        "| metrics.AP | 0.5000 |",
        "Weights: CC0-1.0.",
        "license: cc0-1.0",
        "`resnet-vd`",
    ):
        assert phrase in text


def test_the_configuration_of_a_card_builds_the_model_again(tmp_path: Path) -> None:
    retrofit = {"backbone.stage4.block": {"part": "extradw", "expand": 2.0, "at": {"shortcut": "vd"}}}
    model = build("rtdetr-n", retrofit, num_classes=3, settings={"num_queries": 20})
    trained = {"data": "cells", "started_from": "timm x", "licence_of_start": "MIT"}
    save_model(tmp_path / "m.safetensors", model, ModelInfo("rtdetr-n", NAMES, (0, 1, 2), (64, 64), trained=trained))
    text = model_card(tmp_path / "m.safetensors")
    assert "weights that it started from apply (MIT)." in text and "license:" not in text
    values = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    experiment = load_experiment({**values, "data": "x"})
    again = build(experiment.model.name, experiment.retrofit, num_classes=3, settings=experiment.model.frame)
    assert again.slots == model.slots and again.frame == model.frame and again.frame.num_queries == 20


def test_a_training_starts_from_it_and_says_what_it_took(folder: Path) -> None:
    model = build("rtdetr-r18", {"backbone.stage4.block": "extradw"}, num_classes=2)
    start = start_from(
        model, folder, ("white", "dog"), ["backbone.stage[1,2,3].block", "encoder.fusion_block", "encoder"]
    )
    assert (
        start.pretrained == "model"
        and "licence: not stated in a model card; Apache-2.0 for the published" in start.line
    )
    content = transfer_json(model, start.report, (64, 64), weights="x")
    slots = {slot["address"]: slot for slot in content["slots"]}
    total = sum(parameter.numel() for parameter in model.parameters())
    assert sum(sum(slot["parameters"].values()) for slot in slots.values()) == total
    for counts in ("parameters", "flops"):
        stage1, stage4, head = (
            slots[name][counts] for name in ("backbone.stage1.block", "backbone.stage4.block", HEAD)
        )
        assert stage1["kept"] > 0 == stage1["fresh"]
        assert stage4["fresh"] > 0
        assert head["by_class"] == head["fresh"] > 0, "one of two classes is known"
        shares = content[f"shares_of_{counts}"]
        assert 0 < shares["kept"] < 1 and sum(shares.values()) == pytest.approx(1)
    assert "  backbone.stage4.block: fresh 100%" in transfer_lines(content)
    assert slots["encoder.fusion_block"]["parameters"]["kept"] > 0, "a slot whose address is no module's name"
    json.dumps(content)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("backbone", r"--require backbone: \d+ tensors under it were not kept, first 'backbone\.stage4"),
        ("backbone.stag1", r"nothing at 'backbone\.stag1'; did you mean 'backbone\.stage1"),
        ("backbone.stage[3,4].block", r"tensors under it were not kept, first 'backbone\.stage4"),
        ("encoder.context", "what is there in this model has no weights"),
    ],
)
def test_what_must_be_kept(folder: Path, address: str, message: str) -> None:
    model = build("rtdetr-r18", {"backbone.stage4.block": "extradw"}, num_classes=3)
    with pytest.raises(DetrofitError, match=message):
        start_from(model, folder, NAMES, [address])
