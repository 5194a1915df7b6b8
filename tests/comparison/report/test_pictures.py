from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detrofit.cli import main
from detrofit.comparison.report import files
from detrofit.comparison.report.content import Content
from detrofit.comparison.report.differing_pictures import Sights, look, study_test_split
from detrofit.comparison.report.pictures import picture_blocks
from detrofit.comparison.splits import data_digest, picture_digests, prepare_data
from detrofit.data.demo import draw_demo_dataset
from detrofit.data.index import DetectionIndex
from detrofit.data.open import open_dataset
from detrofit.errors import DetrofitError
from detrofit.evaluation.predictions import Predictions
from detrofit.pages.blocks import Fold, PictureRow
from tests.comparison.report_cases import BASE, NO_CHARTS, Drawn, drawn_study

HARD = 2  # the picture on which the base sees nothing
EASY = 4  # and the one on which the variant sees what is not there


def detections(index: DetectionIndex, variant: str) -> Predictions:
    """The truth, but for the picture on which each is bad."""
    predictions = Predictions()
    for position in range(len(index)):
        boxes, labels = index.boxes(position), index.labels_of(position)
        if variant == "base" and position == HARD:
            boxes, labels = boxes[:0], labels[:0]
        if variant != "base" and position == EASY:
            boxes = np.concatenate([boxes, np.tile([[1.0, 1.0, 9.0, 9.0]], (3, 1))])
            labels = np.concatenate([labels, np.zeros(3, labels.dtype)])
        predictions.add(position, boxes, np.full(len(boxes), 0.9), labels)
    return predictions


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, Path]:
    """Results of two seeds, their folder and the data."""
    root = tmp_path_factory.mktemp("a study")
    draw_demo_dataset(root / "data", pictures={"train": 2, "val": 2, "test": 6}, size=(96, 128))
    dataset = open_dataset(root / "data")
    index = dataset.split("test")
    results = drawn_study((BASE, Drawn("new", 1.0)), seeds=2, classes=index.class_names, epochs=0)
    splits = [dataset.split(name) for name in ("train", "val", "test")]
    results["data"]["digest"] = data_digest(splits, [picture_digests(each) for each in splits])
    results["latency"] = []
    for run in results["runs"]:
        file = root / "study" / run["predictions"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(gzip.compress(json.dumps(detections(index, run["variant"]).to_coco(index)).encode()))
    (root / "study" / "results.json").write_text(json.dumps(results))
    return results, root / "study", root / "data"


def test_pictures_are_those_that_differ(study: tuple[dict[str, Any], Path, Path]) -> None:
    results, folder, data = study
    sights = Sights(results, open_dataset(data).split("test"), [folder])
    better, worse = sights.differences("new", most=3)
    assert [(each.position, each.f1) for each in better] == [(HARD, 1.0)], "those without a difference are not shown"
    assert [each.position for each in worse] == [EASY] and -1 < worse[0].f1 < 0


def test_nothing_to_find_and_nothing_found_is_right() -> None:
    from tests.evaluation.scenes import make_index

    index = make_index([[], [([0, 0, 50, 50], 0)]])
    predictions = Predictions()
    predictions.add(1, np.array([[0, 0, 50, 50]]), np.array([0.8]), np.array([0]))
    assert look(index, predictions).f1.tolist() == [1.0, 1.0]


def test_boxes_say_what_was_found_false_and_missed(study: tuple[dict[str, Any], Path, Path]) -> None:
    results, folder, data = study
    index = open_dataset(data).split("test")
    _, fold = picture_blocks(Content(results), index, [folder])
    assert isinstance(fold, Fold)
    rows = [row for row in fold.blocks if isinstance(row, PictureRow)]
    kinds = [[sorted({box.kind for box in panel.boxes}) for panel in row.panels] for row in rows]
    assert kinds == [[["truth"], ["missed"], ["found"]], [["truth"], ["found"], ["false", "found"]]]
    truth = rows[0].panels[0]
    assert len(truth.boxes) == len(index.boxes(HARD)) and truth.picture.uri.startswith("data:image/jpeg;base64,")
    np.testing.assert_allclose([box.xyxy for box in truth.boxes], index.boxes(HARD), atol=0.01)


def test_data_with_one_split_beside_train_is_known_again(tmp_path: Path) -> None:
    draw_demo_dataset(tmp_path / "data", pictures={"train": 20, "val": 2, "test": 3}, size=(64, 64))
    description = tmp_path / "data" / "data.yaml"
    description.write_text(description.read_text().replace("val: images/val\n", ""))
    made = prepare_data(tmp_path / "data", "val", "test", tmp_path / "study")
    results = drawn_study((BASE, Drawn("new", 1.0)), seeds=2, epochs=0)
    results["data"]["digest"] = made.digest
    for place in (tmp_path / "data", made.path):  # in another clone, and where the study was made
        assert study_test_split(results, place).names() == made.open_test().names()


def test_other_data_is_refused(study: tuple[dict[str, Any], Path, Path], tmp_path: Path) -> None:
    results, _, data = study
    draw_demo_dataset(tmp_path / "other", pictures={"train": 2, "val": 2, "test": 3}, size=(96, 128))
    with pytest.raises(DetrofitError, match="not the data that the study was made on"):
        study_test_split(results, tmp_path / "other")
    with pytest.raises(DetrofitError, match="no predictions of the base"):
        picture_blocks(Content(results), study_test_split(results, data), [tmp_path])


def test_on_the_command_line(
    study: tuple[dict[str, Any], Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files, "study_charts", lambda content: NO_CHARTS)
    _, folder, data = study
    assert main(["report", str(folder), "--data", str(data), "--out", str(tmp_path / "with")]) == 0
    assert (tmp_path / "with" / "report.html").read_text("utf-8").count("data:image/jpeg") == 2
    assert main(["report", str(folder), "--data", str(data), "--no-pictures", "--out", str(tmp_path / "without")]) == 0
    assert "data:image" not in (tmp_path / "without" / "report.html").read_text("utf-8").partition("<body>")[2]
    capsys.readouterr()
    assert main(["report", str(folder), "--data", str(tmp_path / "gone"), "--out", str(tmp_path / "gone too")]) == 0
    assert "the report has no pictures: no data set at" in capsys.readouterr().err
