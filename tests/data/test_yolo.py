from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detrofit.data.open import open_dataset
from detrofit.data.yolo import label_path
from detrofit.errors import DetrofitError
from tests.data.small_datasets import write_picture, write_yolo


def test_boxes_are_scaled_to_pixels_and_pictures_without_labels_are_background(tmp_path: Path) -> None:
    dataset = open_dataset(write_yolo(tmp_path, {"train/a": "1 0.5 0.5 0.25 0.2\n", "train/b": None, "train/c": ""}))
    index = dataset.split("train")
    assert dataset.class_names == ("cat", "dog")
    np.testing.assert_allclose(index.boxes(0), [[15, 12, 25, 18]])
    assert [len(index.labels_of(position)) for position in range(3)] == [1, 0, 0]


def test_polygons_become_boxes_and_other_lines_are_left_out(tmp_path: Path) -> None:
    lines = ["0 0.1 0.2 0.5 0.1 0.3 0.6", "0 0.5 0.5", "x 0.5 0.5 0.1 0.1", "0.5 0.5 0.5 0.1 0.1", "0 20 15 10 10"]
    lines += ["7 0.5 0.5 0.1 0.1", "0 nan 0.5 0.1 0.1", "1 0.5 0.5 0.1 0.1 0.9", "", "1 0.5 0.5 0.5 0.5"]
    index = open_dataset(write_yolo(tmp_path, {"train/a": "\n".join(lines)})).split("train")
    np.testing.assert_allclose(index.boxes_xyxy, [[4, 3, 20, 18], [10, 7.5, 30, 22.5]], rtol=1e-6)
    np.testing.assert_array_equal(index.labels, [0, 1])
    assert index.left_out == {"malformed-label": 4, "not-normalised": 1, "unknown-class": 1, "degenerate-box": 1}


def test_keypoints_after_a_box_are_passed_over(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, {"train/a": "0 0.5 0.5 0.5 0.5 0.1 0.1 2 0.2 0.2 2"}, kpt_shape=[2, 3])
    np.testing.assert_array_equal(open_dataset(path).split("train").boxes_xyxy, [[10, 7.5, 30, 22.5]])


def test_a_byte_order_mark_and_an_enormous_field_do_no_harm(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"train/a": "", "train/b": f"0 {'9' * 100_000} 0 0 0"})
    (tmp_path / "labels" / "train" / "a.txt").write_bytes(b"\xef\xbb\xbf1 0.5 0.5 0.5 0.5\r\n")
    index = open_dataset(tmp_path).split("train")
    assert index.labels.tolist() == [1]
    assert index.left_out == {"malformed-label": 1}


@pytest.mark.parametrize("names", [["cat", "dog"], {0: "cat", 1: "dog"}, {"0": "cat", "1": "dog"}])
def test_names_may_be_a_list_or_numbered(tmp_path: Path, names: object) -> None:
    dataset = open_dataset(write_yolo(tmp_path, {"train/a": ""}, names=names))
    assert (dataset.category_ids, dataset.class_names) == ((0, 1), ("cat", "dog"))


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], "gives no class names: add 'names'"),
        ("cat", "should list the class names"),
        ({"cat": 0}, "should list the class names"),
        ([["cat"]], "should hold plain names, not a list"),
    ],
)
def test_names_are_needed(tmp_path: Path, names: object, reason: str) -> None:
    with pytest.raises(DetrofitError, match=reason):
        open_dataset(write_yolo(tmp_path, {"train/a": ""}, names=names))


def test_a_split_may_be_several_folders_or_a_list_of_pictures(tmp_path: Path) -> None:
    labels: dict[str, str | None] = {"one/a": "0 .5 .5 .5 .5", "two/deep/b": "1 .5 .5 .5 .5", "three/c": None}
    write_yolo(tmp_path, labels, train=["images/one", "images\\two"], val="val.txt")
    (tmp_path / "val.txt").write_text("./images/three/c.png\nimages\\one\\a.png\n\n")
    dataset = open_dataset(tmp_path)
    train, val = dataset.split("train"), dataset.split("val")
    assert [train.path(0), train.path(1)] == [tmp_path / "images/one/a.png", tmp_path / "images/two/deep/b.png"]
    assert train.labels.tolist() == [0, 1]
    assert [val.path(0), val.path(1)] == [tmp_path / "images/three/c.png", tmp_path / "images/one/a.png"]
    assert len(val.labels_of(1)) == 1


def test_a_list_of_pictures_may_start_from_the_data_set_or_from_its_own_folder(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"all/a": "0 .5 .5 .5 .5", "all/b": None}, train="lists/train.txt", val="lists/val.txt")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "train.txt").write_text("images/all/gone.png\nimages/all/a.png\n")
    (tmp_path / "lists" / "val.txt").write_text("../images/all/b.png\n")
    dataset = open_dataset(tmp_path)
    assert dataset.split("train").path(0) == tmp_path / "images/all/a.png"
    assert dataset.split("val").path(0) == tmp_path / "images/all/b.png"


def test_paths_may_start_from_another_folder(tmp_path: Path) -> None:
    write_yolo(tmp_path / "data", {"train/a": "0 .5 .5 .5 .5"})
    for name, text in (("up.yaml", "train: ../images/train"), ("path.yaml", "path: ../data\ntrain: images/train")):
        path = tmp_path / "data" / name
        path.write_text(f"{text}\nnames: [cat]\n")
        assert len(open_dataset(path).split("train")) == 1


def test_a_split_whose_folder_is_absent_is_named_when_asked_for(tmp_path: Path) -> None:
    dataset = open_dataset(write_yolo(tmp_path, {"train/a": ""}, test="images/tset"))
    assert dataset.splits == ("train",)
    with pytest.raises(DetrofitError, match=r"the split 'test' of .* should be .*images/tset, which does not exist"):
        dataset.split("test")


def test_the_last_images_folder_becomes_labels() -> None:
    assert label_path("/images/x/images/train/a.b.jpg") == "/images/x/labels/train/a.b.txt"
    assert label_path("/pictures/a.jpg") == "/pictures/a.txt"


def test_a_text_file_with_the_name_of_a_picture_is_left_out(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"train/a": "0 .5 .5 .5 .5", "train/b": "0 .5 .5 .5 .5"})
    (tmp_path / "images" / "train" / "a.png").write_text("hello")
    index = open_dataset(tmp_path).split("train")
    assert index.names() == ["b.png"]
    assert len(index.boxes(0)) == 1
    assert index.left_out == {"unreadable-image": 1}


def test_a_changed_label_is_read_again(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"train/a": "0 .5 .5 .5 .5"})
    assert open_dataset(tmp_path).split("train").labels.tolist() == [0]
    (tmp_path / "labels" / "train" / "a.txt").write_text("1 .5 .5 .5 .5\n1 .5 .5 .2 .2\n")
    assert open_dataset(tmp_path).split("train").labels.tolist() == [1, 1]
    write_picture(tmp_path / "images" / "train" / "a.png", 80, 30)
    assert open_dataset(tmp_path).split("train").boxes(0)[0].tolist() == [20, 7.5, 60, 22.5]
