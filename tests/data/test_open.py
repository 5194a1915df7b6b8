from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detrofit.data.open import open_dataset
from detrofit.errors import DetrofitError
from tests.data.small_datasets import voc_object, write_coco, write_picture, write_voc, write_yolo


def test_each_form_is_recognised_from_its_folder(tmp_path: Path) -> None:
    write_coco(tmp_path / "coco")
    write_yolo(tmp_path / "yolo", {"train/a": "0 .5 .5 .5 .5"})
    write_voc(tmp_path / "voc", {"train": {"a": voc_object("cat", 1, 2, 3, 4)}})
    for kind, words in (("coco", "COCO"), ("yolo", "YOLO"), ("voc", "Pascal VOC")):
        dataset = open_dataset(tmp_path / kind)
        assert dataset.kind == kind
        assert dataset.description.startswith(f"{words} data set {tmp_path / kind}")


def test_a_path_relative_to_the_working_folder_finds_labels_and_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_yolo(tmp_path, {"train/a": "0 .5 .5 .5 .5"})
    monkeypatch.chdir(tmp_path)
    index = open_dataset("data.yaml").split("train")
    assert len(index.labels) == 1
    assert index.path(0).is_absolute() and index.path(0).is_file()


def test_the_description_counts_what_is_left_out(tmp_path: Path) -> None:
    boxes = voc_object("cat", 1, 2, 3, 4) + voc_object("cat", 5, 5, 5, 5) + voc_object("cat", 50, 50, 60, 60)
    write_voc(tmp_path, {"train": {"a": boxes, "b": None}, "val": {"c": None}})
    (tmp_path / "JPEGImages" / "b.png").write_text("no picture")
    description = open_dataset(tmp_path).description
    assert "train 1 pictures 1 boxes, val 1 pictures 0 boxes" in description
    assert "1 unreadable or missing pictures, 1 boxes without area, 1 boxes outside their pictures" in description
    assert "\n" not in description


def test_the_description_tells_of_pictures_whose_labels_are_for_another_size(tmp_path: Path) -> None:
    write_voc(tmp_path, {"train": {"a": voc_object("cat", 1, 2, 3, 4), "b": None}})
    write_picture(tmp_path / "JPEGImages" / "a.png", width=20)
    description = open_dataset(tmp_path).description
    assert description.endswith(
        "; 1 pictures of another size than their labels say, so that boxes are displaced (see detrofit data check)"
    )


@pytest.mark.parametrize(
    "name",
    ["absent", "empty", "notes.txt", "broken.yaml", "list.yaml", "date.yaml", "deep.yaml", "broken.json", "list.json"],
)
def test_what_is_no_data_set_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "broken.yaml").write_text("names: [")
    (tmp_path / "list.yaml").write_text("- 1")
    (tmp_path / "date.yaml").write_text("names: [2024-13-45]")
    (tmp_path / "deep.yaml").write_text("[" * 5000)
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(DetrofitError) as caught:
        open_dataset(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_absent_split_names_those_there_are(tmp_path: Path) -> None:
    write_coco(tmp_path, "train")
    write_coco(tmp_path, "val")
    with pytest.raises(DetrofitError, match="no split 'vall', only: train, val; did you mean 'val'"):
        open_dataset(tmp_path).split("vall")


def test_a_yaml_may_not_make_objects(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_text(f"names: !!python/object/apply:os.mkdir ['{tmp_path}/made']")
    with pytest.raises(DetrofitError, match="not valid YAML"):
        open_dataset(path)
    assert not (tmp_path / "made").exists()


def test_boxes_are_clipped_and_background_pictures_stay(tmp_path: Path) -> None:
    write_voc(tmp_path, {"train": {"a": "", "b": voc_object("cat", -5, 10, 100, 20)}})
    index = open_dataset(tmp_path).split("train")
    assert len(index) == 2
    assert index.boxes(0).shape == (0, 4)
    np.testing.assert_array_equal(index.boxes(1), [[0, 10, 40, 20]])


def test_sizes_are_those_after_the_exif_rotation(tmp_path: Path) -> None:
    from PIL import Image

    write_yolo(tmp_path, {"train/a": "0 .5 .5 1 1"})
    exif = Image.Exif()
    exif[0x0112] = 6
    write_picture(tmp_path / "images" / "train" / "a.png", 40, 30, exif=exif)
    index = open_dataset(tmp_path).split("train")
    assert (index.widths[0], index.heights[0]) == (30, 40)
    np.testing.assert_array_equal(index.boxes(0), [[0, 0, 30, 40]])
