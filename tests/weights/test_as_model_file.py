"""What commands do with weights of other programs in place of a model file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from detrofit import DetrofitError, build
from detrofit.cli.app import main
from detrofit.cli.options import model_file
from detrofit.data.open import open_dataset
from detrofit.deployment.describe import describe
from detrofit.weights.huggingface import to_huggingface
from detrofit.weights.import_file import as_model_file, import_weights
from detrofit.weights.model_file import ModelInfo, load_model, read_info, save_model
from detrofit.weights.start import load_start, plan_start
from tests.cli.typed import TINY
from tests.weights.layouts import official
from tests.weights.server import Files

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The nano model with two classes as an official checkpoint."""
    file = tmp_path_factory.mktemp("official") / "their best.pth"
    torch.save({"model": official(build("rtdetr-n", num_classes=2, seed=3).state_dict())}, file)
    return file


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> dict[str, Path]:
    """The nano model with the classes of the data as an official checkpoint, and as a Hugging Face folder."""
    folder = tmp_path_factory.mktemp("foreign")
    names = tuple(open_dataset(tiny_data).split("test").class_names)
    model = build("rtdetr-n", num_classes=len(names), seed=3).eval()
    torch.save({"ema": {"module": official(model.state_dict())}}, folder / "theirs.pth")
    (folder / "hub").mkdir()
    state = {name: tensor.contiguous() for name, tensor in to_huggingface(model.state_dict()).items()}
    save_file(state, folder / "hub" / "model.safetensors")
    config = {"model_type": "rt_detr", "id2label": dict(enumerate(names))}
    (folder / "hub" / "config.json").write_text(json.dumps(config), "utf-8")
    return {"official": folder / "theirs.pth", "huggingface": folder / "hub"}


def test_a_checkpoint_is_a_model_file_for_a_while(checkpoint: Path) -> None:
    with as_model_file(str(checkpoint)) as file:
        assert file.name == "their best.safetensors" and file.parent != checkpoint.parent
        own = load_model(file).state_dict()
    assert not file.exists() and not file.parent.exists()
    assert torch.equal(own["decoder.layer0.linear1.weight"], build("rtdetr-n", num_classes=2, seed=3).state_dict()[
        "decoder.layer0.linear1.weight"])  # fmt: skip


def test_classes_without_names_are_taken_in_their_order(checkpoint: Path) -> None:
    model = build("rtdetr-n", num_classes=2)
    start = load_start(model, plan_start(model, "rtdetr-n", str(checkpoint)), ("cat", "dog"))
    assert ", its unnamed classes taken in their order;" in start.line
    assert start.report is not None and not start.report.by_class and not start.report.fresh


def test_our_own_files_and_what_is_missing_are_left_alone(checkpoint: Path, tmp_path: Path) -> None:
    ours = tmp_path / "ours.safetensors"
    save_model(ours, build("rtdetr-n", num_classes=1), ModelInfo("rtdetr-n", ("a",), (0,), (64, 64)))
    for path in (ours, tmp_path, tmp_path / "absent.safetensors", tmp_path / "a.onnx"):
        with model_file(str(path), None) as (file, in_place):
            assert file == path and in_place
    best = ours.rename(tmp_path / "best.safetensors")
    with model_file(str(tmp_path), None) as (file, in_place):
        assert file == best and in_place, "a run folder"
    with model_file(None, str(checkpoint)) as (file, in_place):
        assert file != checkpoint and not in_place
    for both in ((None, None), ("a", "b")):
        with pytest.raises(DetrofitError, match="give a model file, or --weights, and not both"), model_file(*both):
            pass


def test_predict_takes_weights_from_a_url(
    checkpoint: Path, online: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    online.content["/best.pth"] = checkpoint.read_bytes()
    Image.new("RGB", (80, 60)).save(tmp_path / "a.png")
    out = tmp_path / "out"
    words = ["--weights", online.address + "/best.pth", "--threshold", "0.001", "--save", "coco", "--device", "cpu"]
    assert main(["predict", str(tmp_path / "a.png"), *words, "--out", str(out)]) == 0, capsys.readouterr().err
    (found,) = out.glob("*.json")
    assert [category["name"] for category in json.loads(found.read_text("utf-8"))["categories"]] == [
        "class 0",
        "class 1",
    ]
    assert main(["predict", str(checkpoint)]) == 2
    assert "give pictures" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["official", "huggingface"])
def test_val_scores_other_programs_weights(
    foreign: dict[str, Path], form: str, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", str(tiny_data), "--imgsz", "64", "--workers", "0", "--device", "cpu"]
    assert main(["val", "--weights", str(foreign[form]), *words, "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr()
    assert "test: 4 images" in told.out and (tmp_path / "out" / "predictions.json").is_file()
    assert ("warning: theirs.safetensors does not name its classes" in told.err) == (form == "official")
    assert ", here rtdetr-n; licence: " in told.err, "whose weights they are, and on what terms"


def test_export_writes_other_programs_weights(foreign: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    words = ["--imgsz", "64", "--out", str(tmp_path / "m.onnx")]
    assert main(["export", "--weights", str(foreign["huggingface"]), *words]) == 0, capsys.readouterr().err
    description = describe(tmp_path / "m.onnx")
    assert description["input_size"] == [64, 64] and len(description["class_names"]) > 1


def test_what_transformers_has_not_is_one_line(foreign: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    assert main(["weights", "export", str(foreign["official"]), str(tmp_path / "hub")]) == 2
    assert "with the stock options of its encoder's parts only" in capsys.readouterr().err
    assert not (tmp_path / "hub").exists()


def test_import_with_what_a_checkpoint_does_not_tell(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    assert main(["weights", "import", str(checkpoint), "--out", str(out), "--set", "sampling=discrete"]) == 0
    assert load_model(out).frame.sampling == "discrete"
    assert read_info(out).trained["imported_from"] == "official RT-DETR their best.pth"
    with pytest.raises(DetrofitError, match=r"model\.samplin"):
        import_weights(str(checkpoint), out, {"samplin": "discrete"})


def test_train_freezes_what_it_is_told(checkpoint: Path, tiny_data: Path, tmp_path: Path) -> None:
    words = ["--data", str(tiny_data), *TINY]
    words += [
        "--weights",
        str(checkpoint),
        "--freeze",
        "backbone.stem,backbone.stage[1,2].conv,backbone.stage1",
        "--set",
        f"runs={tmp_path}",
    ]
    words += ["--set", "train.frozen_norms=[backbone]", "--set", "train.lr_by_slot={encoder: 0.0}", "--name", "run"]
    assert (
        main(
            [
                "train",
                "rtdetr-n",
                *words,
                "--set",
                "model.num_denoising=10",
                "--require",
                "backbone.stage[1,2,3,4].block",
            ]
        )
        == 0
    )
    before, after = (
        build("rtdetr-n", num_classes=2, seed=3).state_dict(),
        load_file(tmp_path / "run" / "last.safetensors"),
    )
    changed = {name for name, tensor in after.items() if name in before and not torch.equal(tensor, before[name])}
    frozen = ("backbone.stem.", "backbone.stage1.", "backbone.stage2.block0.conv2.")
    assert not [name for name in changed if name.startswith(frozen)]
    assert not [name for name in changed if name.startswith("backbone.") and ".norm." in name]
    assert "backbone.stage2.block0.conv1.conv.weight" in changed
    trained = [name for name in changed if name.startswith("encoder.") and not name.endswith(STATISTICS)]
    assert not trained, "a rate of zero"
    assert "encoder.input_projection.stride8.norm.running_mean" in changed, "norms that are not frozen go on measuring"
    info = read_info(tmp_path / "run" / "last.safetensors").trained
    assert info["started_from"].startswith("official RT-DETR ") and info["licence_of_start"].startswith("Apache-2.0")
