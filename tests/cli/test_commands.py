"""The commands as a person types them, on drawn data; and the mistakes, each one line and exit code 2."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detrofit.cli import main
from detrofit.data.demo import draw_demo_dataset
from tests.cli.typed import TINY, mistake

SMALL = [*TINY, "--set", "model.num_queries=20"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("drawn data") / "shapes"
    return draw_demo_dataset(folder, 0, pictures={"train": 8, "val": 4, "test": 4}, size=(96, 128))


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    """The folder of a finished run with a swap."""
    runs = tmp_path_factory.mktemp("runs")
    swap = ["--swap", "backbone.stage4.block={part: extradw, expand: 2.0}"]
    arguments = ["train", "rtdetr-n", "--data", str(data), *SMALL, *swap, "--set", f"runs={runs}", "--name", "first"]
    assert main(arguments) == 0
    return runs / "first"


def test_a_run_folder_has_all_that_was_promised(run):
    names = {path.name for path in run.iterdir()}
    assert {"config.yaml", "metrics.jsonl", "metrics.csv", "tensorboard", "curves.png", "pictures.jpg"} <= names
    assert {"best.safetensors", "last.safetensors", "state.pt"} <= names
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"step", "epoch", "loss", "loss_class", "loss_l1", "loss_box", "lr", "AP", "AP50"} <= row.keys()
    assert "extradw" in (run / "config.yaml").read_text()


def test_the_written_configuration_trains_again(run, tmp_path):
    assert main(["train", "--config", str(run / "config.yaml"), "--set", f"runs={tmp_path}", "--name", "again"]) == 0
    assert (tmp_path / "again" / "metrics.jsonl").read_text() == (run / "metrics.jsonl").read_text()


def test_val_scores_a_run_and_leaves_tables_and_predictions(run, data, capsys):
    assert main(["val", str(run), "--data", str(data), "--workers", "0", "--device", "cpu"]) == 0
    assert "test: 4 images" in capsys.readouterr().out
    folder = run / "val-test"
    assert {"evaluation.json", "predictions.json", "precision_recall.png", "pictures.jpg"} <= {
        path.name for path in folder.iterdir()
    }
    assert {entry["category_id"] for entry in json.loads((folder / "predictions.json").read_text())} <= set(range(5))


def test_predict_draws_and_lists(run, data, tmp_path, capsys):
    pictures = data.parent / "images" / "test"
    command = ["predict", str(run / "best.safetensors"), str(pictures), "--out", str(tmp_path), "--threshold", "0"]
    assert main([*command, "--device", "cpu"]) == 0
    content = json.loads((tmp_path / "predictions.json").read_text())
    assert len(content["images"]) == 4 and len(content["annotations"]) > 0
    assert len(list(tmp_path.glob("*.jpg"))) == 4
    assert "test_0001.jpg" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["coco", "yolo", "voc"])
def test_data_is_converted_and_checked(data, tmp_path, form, capsys):
    assert main(["data", "convert", str(data), form, str(tmp_path / form)]) == 0
    target = tmp_path / form / "data.yaml" if form == "yolo" else tmp_path / form
    capsys.readouterr()
    assert main(["data", "check", str(target), "--imgsz", "64", "--json"]) in (0, 1)
    assert json.loads(capsys.readouterr().out)["kind"] == form


def test_listings(capsys):
    assert main(["slots", "rtdetr-n", "--swap", "encoder.fusion=bifpn", "--imgsz", "64"]) == 0
    printed = capsys.readouterr().out
    assert (
        "backbone.stage4.block1" in printed
        and "bifpn" in printed
        and "encoder.fusion_block" not in printed.split("loss.box")[0]
    )
    assert main(["parts"]) == 0 and main(["parts", "extradw"]) == 0
    assert "arXiv:2404.10518" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rtdetr-m"], "there is no model 'rtdetr-m'"),
        (["rtdetr-n", "--swap", "backbone.stage4.blok=extradw"], "did you mean 'backbone.stage4.block'"),
        (["rtdetr-n", "--swap", "backbone.stage4.block=extradv"], "did you mean 'extradw'"),
        (["rtdetr-n", "--swap", "loss.box={part: nwd, constant: -1}"], "option 'constant' = -1"),
        (["rtdetr-n", "--set", "train.epoch=3"], "did you mean 'train.epochs'"),
        (["rtdetr-n", "--imgsz", "100"], "must be multiples of 32"),
        (["rtdetr-n", "--weights", "absent.pth"], "absent.pth do not exist"),
        (["rtdetr-n", "--plugin", "absent.py"], "absent.py does not exist"),
        (["rtdetr-n", "--device", "tpu"], "device"),
        (["rtdetr-n", "--set", "train.freeze=[backbone.stage9]"], "nothing at 'backbone.stage9'"),
        (["rtdetr-n", "--batch", "0"], "train.batch"),
    ],
)
def test_a_mistake_in_training_is_one_line_and_leaves_nothing(data, tmp_path, capsys, arguments, words):
    before = ["train", "--data", str(data), "--set", f"runs={tmp_path}", "--workers", "0", "--name", "run"]
    assert words in mistake(capsys, *before, *arguments)
    assert not list(tmp_path.iterdir())


def test_a_run_is_never_overwritten(run, data, capsys):
    arguments = ["train", "rtdetr-n", "--data", str(data), *SMALL, "--set", f"runs={run.parent}", "--name", "first"]
    assert f"--resume {run}" in mistake(capsys, *arguments)


def test_data_that_is_none(tmp_path, capsys):
    assert "absent.yaml" in mistake(capsys, "train", "rtdetr-n", "--data", str(tmp_path / "absent.yaml"))
    assert main(["data", "check", str(tmp_path)]) == 2


def test_weights_and_data_of_other_classes(run, tmp_path, data, capsys):
    other = tmp_path / "other"
    other.mkdir()
    text = data.read_text().replace("disc", "kitten")
    (data.parent / "other.yaml").write_text(text)
    line = mistake(capsys, "val", str(run), "--data", str(data.parent / "other.yaml"), "--device", "cpu")
    assert "does not know the class 'kitten'" in line


def test_pictures_of_every_kind_are_read_or_refused(run, tmp_path, capsys):
    file = str(run / "best.safetensors")
    good = {
        "cmyk.jpg": Image.new("CMYK", (40, 30)),
        "deep.png": Image.fromarray(np.full((30, 40), 40000, np.uint16)),
        "grey.png": Image.new("L", (40, 30)),
        "clear.png": Image.new("RGBA", (40, 30)),
        "dot.png": Image.new("RGB", (1, 1)),
        "wide.png": Image.new("RGB", (20000, 8)),
    }
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, picture in good.items():
        picture.save(folder / name)
    assert main(["predict", file, str(folder), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    (tmp_path / "text.jpg").write_text("no picture")
    line = mistake(
        capsys, "predict", file, str(tmp_path / "text.jpg"), "--out", str(tmp_path / "none"), "--device", "cpu"
    )
    assert "text.jpg" in line
    assert not (tmp_path / "none").exists()


PART = '''
import torch
from torch import Tensor, nn
from detrofit import part
from detrofit.parts.slots import STAGE_ATTENTION

@part("{name}", fits=[STAGE_ATTENTION], paper="none")
class Gate(nn.Module):
    """A learnt gate a channel."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.ones(in_channels))
        {extra}

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate.sigmoid().view(1, -1, 1, 1)
'''


def test_a_part_of_ones_own_is_checked(tmp_path, capsys):
    good, bad = tmp_path / "good_gate.py", tmp_path / "bad_gate.py"
    good.write_text(PART.format(name="good-gate", extra=""))
    bad.write_text(PART.format(name="bad-gate", extra="self.unused = nn.Linear(2, 2)"))
    assert main(["parts", "check", str(good)]) == 0
    assert main(["parts", "check", str(bad)]) == 1
    assert "unused" in capsys.readouterr().out
    (tmp_path / "raising_gate.py").write_text(PART.format(name="raising-gate", extra="raise ValueError(1)"))
    assert main(["parts", "check", str(tmp_path / "raising_gate.py")]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.count("ValueError: 1") == 1 and "keeps the contract and 9 more: ValueError: 1" in printed
    assert "absent.py does not exist" in mistake(capsys, "parts", "check", str(tmp_path / "absent.py"))
    (tmp_path / "taken.py").write_text(PART.format(name="check", extra=""))
    assert "check" in mistake(capsys, "parts", "check", str(tmp_path / "taken.py"))
