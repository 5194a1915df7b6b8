from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detrofit.errors import DetrofitError
from detrofit.runtime.results import Detections


@pytest.fixture
def found() -> Detections:
    return Detections(
        boxes_xyxy=np.array([[10, 20, 30, 60], [0, 0, 100, 50]], np.float32),
        scores=np.array([0.9, 0.25], np.float32),
        labels=np.array([1, 0]),
        class_names=("cat", '狗, "dog"'),
        size=(100, 200),
        source="a/b.jpg",
    )


def test_short_form_names_what_was_found(found: Detections) -> None:
    assert repr(found) == '<Detections: 狗, "dog" 0.90, cat 0.25 in a/b.jpg (200 x 100)>'
    assert "nothing" in repr(found.filter(1.0))


def test_filter_keeps_the_threshold_itself(found: Detections) -> None:
    assert found.filter(0.25).names == found.names
    assert found.filter(0.26).names == [found.class_names[1]]


def test_coco_results_use_original_ids_and_widths(found: Detections) -> None:
    assert found.to_coco(42, category_ids=(90, 3)) == [
        {"image_id": 42, "category_id": 3, "bbox": [10, 20, 20, 40], "score": pytest.approx(0.9)},
        {"image_id": 42, "category_id": 90, "bbox": [0, 0, 100, 50], "score": 0.25},
    ]


def test_yolo_lines_are_shares_of_the_picture(found: Detections) -> None:
    assert found.to_yolo_txt().splitlines()[0] == "1 0.100000 0.400000 0.100000 0.400000 0.900000"


def test_supervision_gets_the_same_boxes_and_names(found: Detections) -> None:
    pytest.importorskip("supervision", reason="supervision is not installed")
    converted = found.to_supervision()
    np.testing.assert_array_equal(converted.xyxy, found.boxes_xyxy)
    assert list(converted.class_id) == [1, 0]  # type: ignore[arg-type]
    assert list(converted.data["class_name"]) == found.names
    assert len(found.filter(1.0).to_supervision()) == 0


def test_saved_files_hold_every_detection(found: Detections, tmp_path: Path) -> None:
    for name in ("out.csv", "out.json", "out.txt"):
        found.save(tmp_path / "new folder" / name)
    with (tmp_path / "new folder" / "out.csv").open(encoding="utf-8", newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == found.names
    saved = json.loads((tmp_path / "new folder" / "out.json").read_text(encoding="utf-8"))
    assert saved["detections"] == found.to_rows() and (saved["width"], saved["height"]) == (200, 100)
    assert (tmp_path / "new folder" / "out.txt").read_text() == found.to_yolo_txt()


def test_a_picture_is_not_saved_as_detections(found: Detections, tmp_path: Path) -> None:
    with pytest.raises(DetrofitError, match=r"plot\(image\)"):
        found.save(tmp_path / "out.jpg")


def test_the_plot_marks_the_boxes_and_leaves_the_picture_alone(found: Detections) -> None:
    picture = np.full((100, 200, 3), 128, np.uint8)
    plotted = np.asarray(found.plot(picture))
    assert (picture == 128).all() and plotted.shape == picture.shape
    assert (plotted[50, 10] != 128).any(), "the left side of the first box"
    assert (plotted[80, 150] == 128).all(), "outside all boxes"


def test_it_draws_on_the_picture_that_it_knows(found: Detections, tmp_path: Path) -> None:
    grey = np.full((100, 200, 3), 128, np.uint8)
    known = replace(found, picture=grey)
    assert known.plot() == found.plot(grey)
    for name in ("out.png", "out.jpg", "out.webp"):
        known.save(tmp_path / name)
        with Image.open(tmp_path / name) as saved:
            assert saved.size == (200, 100) and saved.format in ("PNG", "JPEG", "WEBP")
    assert (np.asarray(Image.open(tmp_path / "out.png")) == np.asarray(known.plot())).all()


def test_the_same_objects_at_another_size(found: Detections) -> None:
    larger = found.scaled_to((200, 800))
    assert larger.boxes_xyxy.tolist() == [[40, 40, 120, 120], [0, 0, 400, 100]] and larger.size == (200, 800)
    assert larger.names == found.names and found.size == (100, 200)


def test_a_frame_names_its_number_and_time(found: Detections) -> None:
    frame = replace(found, frame=12, seconds=0.48)
    assert ", frame 12 (" in repr(frame)
    assert [(row["frame"], row["seconds"]) for row in frame.to_rows()] == [(12, 0.48)] * 2
    assert found.to_rows()[0]["frame"] is None
