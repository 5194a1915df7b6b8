"""The command: files that open, of the size that was asked for, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detrofit.cli.app import main
from detrofit.data.demo import draw_demo_dataset
from detrofit.data.demo_scenes import SHAPES
from detrofit.drawing import colour_of
from detrofit.errors import DetrofitError, DetrofitWarning
from detrofit.explanation.explain import ExplainSettings, amount, explain
from detrofit.explanation.explained import ExplainedModel, open_models
from detrofit.explanation.truth import named_pictures, truth_of
from detrofit.weights.model_file import save_model
from tests.deployment.models import draw_model, model_info


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("a model") / "first.safetensors"
    save_model(
        target,
        draw_model("rtdetr-n", num_classes=len(SHAPES), num_queries=10),
        model_info("n", (64, 64), tuple(SHAPES)),
    )
    return target


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("explained") / "data"
    return draw_demo_dataset(folder, 0, pictures={"train": 1, "val": 1, "test": 2}, size=(64, 96))


def test_panels_of_two_models_with_ground_truth(file, data, tmp_path, capsys):
    picture = next((data.parent / "images" / "test").iterdir())
    command = ["explain", str(file), str(picture), "--against", str(file), "--data", str(data), "--device", "cpu"]
    command += [
        "--masks",
        "3",
        "--most",
        "1",
        "--slot",
        "backbone.stage3",
        "--slot",
        "backbone.stage[3,4].block",
        "--width",
        "3.25",
    ]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    assert "backbone.stage3" in capsys.readouterr().out
    for stem in (
        "panels",
        "features",
        "receptive-fields",
        f"saliency-{picture.stem}-first 1",
        f"points-{picture.stem}-first 2",
    ):
        png, svg, pdf = (tmp_path / "out" / f"{stem}.{kind}" for kind in ("png", "svg", "pdf"))
        assert Image.open(png).width == pytest.approx(3.25 * 300, abs=2)
        assert svg.read_text(encoding="utf-8").count("<svg") == 1 and pdf.read_bytes().startswith(b"%PDF")
    assert "ground truth" in (tmp_path / "out" / "panels.svg").read_text(encoding="utf-8")
    fields = json.loads((tmp_path / "out" / "receptive-fields.json").read_text())
    assert fields["first 1"]["backbone.stage3"]["side95"] >= fields["first 1"]["backbone.stage3"]["side50"] > 1
    assert list(fields["first 2"]) == ["backbone.stage3", "backbone.stage3.block", "backbone.stage4.block"]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--stride", "4"], "no level of stride 4"),
        (["--slot", "backbone.stage9"], "no model has anything at 'backbone.stage9'"),
        (["--slot", "backbone.stage[4,9]"], "no model has anything at 'backbone.stage9'"),
        (["--slot", "decoder"], "no map comes out at 'decoder'"),
        (["--against", "nothing.safetensors"], "no model file at"),
    ],
)
def test_mistakes_are_one_line(file, data, tmp_path, capsys, options, line):
    picture = next((data.parent / "images" / "test").iterdir())
    assert main(["explain", str(file), str(picture), "--out", str(tmp_path / "out"), *options]) == 2
    assert line in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


class Exported:
    """A backend that finds one object of the first class."""

    input_size, threshold, class_names, max_detections = (64, 64), 0.5, SHAPES, 5

    def __call__(self, pictures):
        boxes = np.tile([[0.1, 0.1, 0.5, 0.5]], (len(pictures), 1, 1))
        return boxes, pictures[:, 8:24, 8:24].mean((1, 2, 3))[:, None] / 255, np.zeros((len(pictures), 1), np.int64)


EXPORTED = ExplainedModel("exported", Exported(), None)
GREY = {"one": np.full((80, 90, 3), 200, np.uint8)}


def test_an_exported_file_shows_detections_and_saliency_alone(tmp_path):
    settings, done = ExplainSettings(masks=6, formats=("png",)), []
    result = explain([EXPORTED], GREY, tmp_path, settings, advance=done.append)
    assert sorted(file.name for file in result.files) == ["panels.png", "saliency-one-exported.png"]
    assert not result.receptive_fields and sum(done) == amount([EXPORTED], 1, settings) == 6


@pytest.mark.parametrize("asked", [{"slots": ["backbone.stage3"]}, {"stride": 8}])
def test_what_an_exported_file_cannot_show_is_told(tmp_path, asked):
    with pytest.raises(DetrofitError, match="exported files have no slots and levels to show"):
        explain([EXPORTED], GREY, tmp_path / "out", ExplainSettings(masks=6, **asked))
    assert not (tmp_path / "out").exists()


def test_a_class_has_one_colour_in_the_truth_and_among_detections(tmp_path, monkeypatch):
    drawn = {}

    def note(rows, stem, **options):
        drawn[stem.name] = rows
        return []

    monkeypatch.setattr("detrofit.explanation.explain.save_panels", note)
    truth = {"one": (np.array([[1, 1, 9, 9], [2, 2, 8, 8]]), [SHAPES[1], SHAPES[0]])}
    explain([EXPORTED], GREY, tmp_path, ExplainSettings(masks=0), truth=truth)
    known, found = drawn["panels"][0]
    assert [box.colour for box in known.boxes] == [colour_of(1), colour_of(0)]
    assert found.boxes[0].colour == colour_of(0)


def test_pictures_that_the_data_lack_are_told(data, tmp_path):
    Image.fromarray(GREY["one"]).save(tmp_path / "other.png")
    with pytest.warns(DetrofitWarning, match="none of the pictures is in .*no ground truth"):
        assert truth_of(named_pictures([str(tmp_path / "other.png")]), data) == {}


def test_a_model_without_the_stages_leaves_their_figures_to_the_others(file, tmp_path):
    """timm's backbones have no addresses inside."""
    other = tmp_path / "timm.safetensors"
    model = draw_model("rtdetr-n", {"backbone": "timm:resnet10t"}, num_classes=len(SHAPES), num_queries=10)
    save_model(other, model, model_info("n", (64, 64), tuple(SHAPES)))
    pictures = {"one": np.full((64, 64, 3), 200, np.uint8)}
    settings = ExplainSettings(masks=0, most=1, formats=("png",))
    models, done = open_models([file, other], "cpu"), []
    both = explain(models, pictures, tmp_path / "both", settings, advance=done.append)
    assert sum(done) == amount(models, 1, settings) == 4, "a picture for each stage of the first"
    assert list(both.receptive_fields) == ["first"] and (tmp_path / "both" / "features.png").exists()
    alone = explain(open_models([other], "cpu"), pictures, tmp_path / "alone", settings)
    assert not alone.receptive_fields and not (tmp_path / "alone" / "features.png").exists()
    assert (tmp_path / "alone" / "points-one-timm.png").exists()
