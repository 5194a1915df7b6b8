"""Bright squares in dark pictures, and a model that finds what is bright in what it is shown."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import nn

from detrofit.cli.app import main
from detrofit.data.open import open_dataset
from detrofit.errors import DetrofitError
from detrofit.evaluation.evaluate import evaluate
from detrofit.model.output import DetectorOutput, Prediction
from detrofit.pictures import decode_picture
from detrofit.runtime.preprocess import to_images
from detrofit.runtime.tiles import detect_in_tiles
from detrofit.tiling import Tiling
from detrofit.training.devices import Devices
from detrofit.training.tiled import LOWEST_SCORE, predict_tiles
from detrofit.training.validate import predict_split
from detrofit.weights.model_file import save_model
from tests.deployment.models import draw_model, model_info

INPUT = (128, 128)
TILING = Tiling(128, 40)
QUERIES = 30
SQUARES = [(20, 30, 36, 46), (122, 40, 138, 52), (300, 118, 312, 132), (70, 200, 200, 230), (380, 280, 400, 300)]


class FindsBright(nn.Module):
    """A box cxcywh in 0..1 around each bright patch of the input, of a high score; none for faint ones."""

    def __init__(self) -> None:
        super().__init__()
        self.batch_sizes: list[int] = []

    def forward(self, images: torch.Tensor) -> DetectorOutput:
        self.batch_sizes.append(len(images))
        logits, boxes = torch.full((len(images), QUERIES, 1), -12.0), torch.zeros(len(images), QUERIES, 4)
        for place, image in enumerate(images.mean(1).numpy()):
            patches = ndimage.find_objects(ndimage.label(image > 0.5)[0])
            for query, (rows, columns) in enumerate(patches[:QUERIES]):
                left, top, right, bottom = columns.start, rows.start, columns.stop, rows.stop
                cxcywh = torch.tensor([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top])
                boxes[place, query] = cxcywh / torch.tensor([*INPUT[::-1], *INPUT[::-1]])
                logits[place, query] = 4.0
        return DetectorOutput(Prediction(logits, boxes), [], [], [], None, torch.zeros(0))


class BrightBackend:
    """The same as a backend of the runtime."""

    input_size = INPUT

    def __init__(self) -> None:
        self.model = FindsBright()

    def __call__(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        logits, boxes = self.model(torch.from_numpy(to_images(pictures))).prediction
        centre, half = boxes[..., :2].numpy(), boxes[..., 2:].numpy() / 2
        scores = logits.sigmoid().numpy()[..., 0]
        return np.concatenate([centre - half, centre + half], -1), scores, np.zeros(scores.shape, np.int64)


def draw(height: int, width: int, squares) -> np.ndarray:
    picture = np.zeros((height, width, 3), np.uint8)
    for left, top, right, bottom in squares:
        picture[top:bottom, left:right] = 255
    return picture


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Three pictures of 400 x 300, the last without objects, as COCO."""
    folder = tmp_path_factory.mktemp("bright")
    images, annotations = [], []
    for number, squares in enumerate((SQUARES, SQUARES[:2], []), start=1):
        Image.fromarray(draw(300, 400, squares)).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": 300, "width": 400})
        for left, top, right, bottom in squares:
            box = [left, top, right - left, bottom - top]
            one = {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "bbox": box, "iscrowd": 0}
            annotations.append({**one, "area": box[2] * box[3]})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "bright"}]}
    file = folder / "bright.json"
    file.write_text(json.dumps(content))
    return file


@pytest.fixture(scope="module")
def index(data):
    dataset = open_dataset(data)
    return dataset.split(next(iter(dataset.splits)))


def test_tiles_find_each_object_once_and_exactly(index):
    model = FindsBright()
    options = {"batch": 4, "workers": 0, "max_detections": QUERIES}
    devices = Devices("cpu", "fp32")
    done: list[int] = []
    tiled = predict_tiles(model, index, INPUT, devices, tiling=TILING, advance=done.append, **options)
    assert sum(done) == 3 and max(model.batch_sizes) == 4
    boxes, scores, _ = tiled[0]
    np.testing.assert_allclose(sorted(boxes[scores > 0.5].tolist()), sorted(SQUARES), atol=0.5)
    assert not (tiled[2][1] > 0.5).any()
    whole = evaluate(index, predict_split(model, index, INPUT, devices, **options))
    in_tiles = evaluate(index, tiled)
    assert in_tiles.summary["AP"] > 0.99 > whole.summary["AP"]
    assert [row["objects"] for row in in_tiles.per_size] == [6, 1, 0]


class SeesTooMuch(FindsBright):
    """Its boxes are a third too large, so that they reach over the edges of tiles."""

    def forward(self, images: torch.Tensor) -> DetectorOutput:
        output = super().forward(images)
        logits, boxes = output.prediction
        return output._replace(prediction=Prediction(logits, boxes * torch.tensor([1, 1, 4 / 3, 4 / 3])))


def test_val_sees_in_tiles_what_predict_does(index):
    backend = BrightBackend()
    backend.model = SeesTooMuch()
    shown = detect_in_tiles(backend, decode_picture(index.path(0)), TILING, LOWEST_SCORE)
    options = {"tiling": TILING, "batch": 4, "workers": 0, "max_detections": QUERIES}
    boxes, scores, _ = predict_tiles(SeesTooMuch(), index, INPUT, Devices("cpu", "fp32"), **options)[0]
    np.testing.assert_allclose(sorted(boxes.tolist()), sorted(shown.boxes.tolist()), atol=1.5)
    assert (boxes >= 0).all() and (boxes <= (400, 300, 400, 300)).all() and (scores > 0.5).all()


def test_a_model_that_has_diverged_is_told_in_tiles_too(index):
    class Diverged(FindsBright):
        def forward(self, images: torch.Tensor) -> DetectorOutput:
            output = super().forward(images)
            return output._replace(
                prediction=Prediction(output.prediction.logits * float("nan"), output.prediction.boxes)
            )

    options = {"tiling": TILING, "batch": 4, "workers": 0, "max_detections": QUERIES}
    with pytest.raises(DetrofitError, match="detections are not finite numbers"):
        predict_tiles(Diverged(), index, INPUT, Devices("cpu", "fp32"), **options)


def test_the_runtime_sees_a_picture_of_any_size_with_as_many_tiles_at_once():
    batches = []
    for scale in (1, 4):
        backend = BrightBackend()
        squares = [tuple(side * scale for side in square) for square in SQUARES]
        found = detect_in_tiles(backend, draw(300 * scale, 400 * scale, squares), Tiling(128 * scale, 40 * scale), 0.5)
        assert len(found.boxes) == len(SQUARES)
        detect_in_tiles(backend, draw(300 * scale, 400 * scale, squares), TILING, 0.5)
        batches.append(max(backend.model.batch_sizes))
    assert batches == [8, 8]


def test_memory_grows_with_the_decoded_picture_alone():
    peaks, pictures = [], [draw(300 * scale, 400 * scale, SQUARES) for scale in (1, 4)]
    for picture in pictures:
        tracemalloc.start()
        detect_in_tiles(BrightBackend(), picture, TILING, 0.5)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 2 * pictures[1].nbytes, "all its tiles at once take four times that"


def test_a_picture_that_fits_a_tile_is_seen_whole():
    backend = BrightBackend()
    found = detect_in_tiles(backend, draw(100, 120, [(20, 20, 60, 60)]), TILING, 0.5)
    assert backend.model.batch_sizes == [1]
    np.testing.assert_allclose(found.boxes, [(20, 20, 60, 60)], atol=1)


def test_val_shows_both_ways_and_predict_takes_tiles(data, tmp_path, capsys):
    file = tmp_path / "model.safetensors"
    save_model(file, draw_model("rtdetr-n", num_classes=1), model_info("rtdetr-n", (64, 64), ("bright",)))
    split = next(iter(open_dataset(data).splits))
    command = ["val", str(file), "--data", str(data), "--split", split, "--device", "cpu", "--workers", "0"]
    assert main([*command, "--tile", "128,32", "--out", str(tmp_path / "whole")]) == 0
    printed = capsys.readouterr().out
    assert "AP in tiles of 128" in printed and "small" in printed
    assert (tmp_path / "whole" / "evaluation.json").exists()
    assert (tmp_path / "whole-tiled" / "evaluation.json").exists()
    pictures = str(data.parent / "1.png")
    assert main(["predict", str(file), pictures, "--tile", "128", "--out", str(tmp_path / "found")]) == 0
    assert (tmp_path / "found").is_dir()
    assert main(["predict", str(file), pictures, "--tile", "many"]) == 2
    assert "--tile takes SIZE" in capsys.readouterr().err
