"""What `train` and its neighbours make of what is typed, without training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from detrofit.cli import main
from detrofit.config.schema import Experiment
from detrofit.training import loop
from detrofit.training.loop import RunResult
from tests.cli.typed import mistake


@pytest.fixture
def trained(monkeypatch):
    """Types a `train` command and returns the experiment that it would have trained."""
    asked: list[Experiment] = []

    def note(experiment: Experiment) -> RunResult:
        asked.append(experiment)
        return RunResult(Path("run"), 0.5)

    monkeypatch.setattr(loop, "train", note)

    def type_in(*arguments: str) -> Experiment:
        assert main(["train", *arguments]) == 0
        return asked[-1]

    return type_in


@pytest.fixture
def config(tmp_path) -> str:
    file = tmp_path / "my config.yaml"
    content = {
        "model": {"name": "rtdetr-n", "num_queries": 50},
        "data": "file.yaml",
        "retrofit": {"backbone.stage[3,4].block": "ib", "backbone.stage4.block": "ffn", "loss.box": "siou"},
        "train": {"epochs": 7, "lr": 0.5, "batch": 2},
    }
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return str(file)


def test_options_go_over_the_file_and_set_over_both(trained, config):
    experiment = trained("--config", config, "--epochs", "5", "--batch", "4", "--set", "train.batch=6")
    assert (experiment.train.epochs, experiment.train.lr, experiment.train.batch) == (5, 0.5, 6)
    assert (experiment.model.name, experiment.model.frame) == ("rtdetr-n", {"num_queries": 50})
    assert str(experiment.data) == "file.yaml"


def test_another_model_keeps_the_numbers_of_the_file(trained, config):
    experiment = trained("rtdetr-s", "--config", config, "--set", "model.num_queries=20")
    assert (experiment.model.name, experiment.model.frame) == ("rtdetr-s", {"num_queries": 20})


def test_a_swap_goes_over_the_file_whatever_way_its_slot_is_written(trained, config):
    from detrofit.parts.retrofit import parse_retrofit

    def parts(*arguments: str) -> dict[str, str]:
        retrofit = parse_retrofit(trained("--config", config, *arguments).retrofit)
        return {address.removeprefix("backbone."): choice.part for address, choice in retrofit.items()}

    assert parts() == {"stage3.block": "ib", "stage4.block": "ffn", "loss.box": "siou"}
    both = {"stage3.block": "extradw", "stage4.block": "extradw", "loss.box": "siou"}
    assert parts("--swap", "backbone.stage[3,4].block=extradw") == both
    assert parts("--set", "retrofit.backbone.stage4.block=star")["stage4.block"] == "star"


def test_of_swaps_for_one_slot_the_last_counts(trained):
    from detrofit.parts.retrofit import parse_retrofit

    swaps = ["backbone.stage4.block=ib", "backbone.stage[3,4].block=ffn", "backbone.stage4.block=extradw"]
    experiment = trained("rtdetr-n", "--data", "d", *(word for swap in swaps for word in ("--swap", swap)))
    parts = {address: choice.part for address, choice in parse_retrofit(experiment.retrofit).items()}
    assert parts == {"backbone.stage3.block": "ffn", "backbone.stage4.block": "extradw"}


def test_a_file_takes_dotted_keys_and_what_options_are_called(trained, tmp_path, capsys):
    file = tmp_path / "short.yaml"
    file.write_text(
        "train.batch: 2\nmodel: rtdetr-n\ndata: d\nepochs: 3\nsave_every: 7\nswap: {loss.box: siou}\n"
        "train: {lr: 0.5, batch: 8}\nplugin: [mine.py]\nmodel.num_queries: 20\n"
    )
    experiment = trained("--config", str(file), "--seed", "3")
    train = experiment.train
    assert (train.epochs, train.batch, train.lr, train.save_every, experiment.seed) == (3, 2, 0.5, 7, 3)
    assert experiment.retrofit == {"loss.box": "siou"} and experiment.plugins == [Path("mine.py")]
    assert experiment.model.frame == {"num_queries": 20}
    file.write_text("model: rtdetr-n\ndata: d\nretrofit: {}\nswap: {loss.box: siou}\n")
    assert "'swap' and 'retrofit' are the same setting" in mistake(capsys, "train", "--config", str(file))


def test_rates_of_slots_take_addresses(trained):
    experiment = trained("rtdetr-n", "--data", "d", "--set", "train.lr_by_slot.backbone.stage4=0.5")
    assert experiment.train.lr_by_slot == {"backbone.stage4": 0.5}


def test_short_forms(trained):
    experiment = trained(
        "rtdetr-n", "--data", "d", "--imgsz", "320,640", "--swap", "backbone=timm:resnet10t", "--lr", "1e-3"
    )
    assert experiment.imgsz == (320, 640) and experiment.retrofit == {"backbone": "timm:resnet10t"}
    assert experiment.train.lr == 1e-3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--resume", "runs/a", "--epochs", "3"], "--resume takes no other option"),
        (["rtdetr-n", "--resume", "runs/a"], "--resume takes no other option"),
        (["--resume", "absent"], "absent is no run folder"),
        (["rtdetr-n"], "setting 'data' is required"),
        (["--data", "d"], "setting 'model' is required"),
        (["rtdetr-n", "--data", "d", "--set", "lr=1"], "did you mean 'train.lr'"),
        (["rtdetr-n", "--data", "d", "--set", "num_queries=1"], "did you mean 'model.num_queries'"),
        (["rtdetr-n", "--data", "d", "--set", "train=5"], "setting 'train' = 5 must be a mapping"),
        (["rtdetr-n", "--data", "d", "--set", "data.path=5"], "setting 'data' ="),
        (["rtdetr-n", "--data", "d", "--set", "train.lr=.inf"], "finite"),
        (["rtdetr-n", "--data", "d", "--set", "train.betas=[0.9, 1]"], "train.betas"),
        (["rtdetr-n", "--data", "d", "--name", ""], "setting 'name'"),
        (["rtdetr-n", "--data", "d", "--swap", "extradw"], "--swap takes KEY=VALUE"),
        (["rtdetr-n", "--data", "d", "--epochs", "many"], "--epochs"),
        (["--config", "absent.yaml"], "absent.yaml does not exist"),
    ],
)
def test_a_mistake_is_one_line(capsys, arguments, words):
    assert words in mistake(capsys, "train", *arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["val", "m.safetensors", "--data", "d", "--batch", "0"], "--batch"),
        (["val", "m.safetensors", "--data", "d", "--workers", "-1"], "--workers"),
        (["val", "absent.safetensors", "--data", "d"], "absent.safetensors does not exist"),
        (["predict", "absent.safetensors", "a.jpg"], "absent.safetensors"),
        (["demo", "--seed", "-1"], "--seed"),
        (
            ["compare", "rtdetr-n", "--data", "d", "--variant", "e: {loss.box: siou}", "--weights", "none.pth"],
            "weights none.pth do not exist",
        ),
        (["slots", "rtdetr-n", "--set", "train.lr=1"], "train.lr does not change the model"),
    ],
)
def test_a_mistake_in_another_command_is_one_line(capsys, arguments, words):
    assert words in mistake(capsys, *arguments)


def test_an_annotated_picture_never_takes_the_place_of_its_source(tmp_path, capsys):
    from detrofit import build
    from detrofit.weights.model_file import ModelInfo, save_model

    settings = {"num_queries": 20, "decoder_layers": 1}
    model, file = build("rtdetr-n", num_classes=1, settings=settings), tmp_path / "model.safetensors"
    save_model(file, model, ModelInfo("rtdetr-n", ("cat",), (0,), (64, 64)))
    picture = tmp_path / "photo.jpg"
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(picture)
    before = picture.read_bytes()
    command = ["predict", str(file), str(picture), "--device", "cpu", "--out"]
    assert "photo.jpg; name another folder with --out" in mistake(capsys, *command, str(tmp_path))
    assert picture.read_bytes() == before and not (tmp_path / "predictions.json").exists()
    assert main([*command, str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["photo.jpg", "predictions.json"]
