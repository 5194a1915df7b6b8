from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detrofit.data.open import open_dataset
from detrofit.data.voc import read_annotation
from detrofit.errors import DetrofitError
from tests.data.small_datasets import voc_object, write_picture, write_voc


def test_classes_are_sorted_over_all_splits_and_difficult_marks_a_crowd(tmp_path: Path) -> None:
    train = {"a": voc_object("dog", 1, 2, 30, 20) + voc_object("cat", 5, 5, 10, 10, difficult=1), "b": ""}
    write_voc(tmp_path, {"train": train, "val": {"c": voc_object("bird", 1, 1, 2, 2.5)}})
    dataset = open_dataset(tmp_path)
    index = dataset.split("train")
    assert dataset.class_names == ("bird", "cat", "dog")
    assert index.labels.tolist() == [2, 1]
    assert index.crowd.tolist() == [False, True]
    np.testing.assert_array_equal(index.boxes(0), [[1, 2, 30, 20], [5, 5, 10, 10]])
    np.testing.assert_array_equal(dataset.split("val").boxes_xyxy, [[1, 1, 2, 2.5]])


def test_a_class_file_decides_order_and_what_is_known(tmp_path: Path) -> None:
    write_voc(tmp_path, {"train": {"a": voc_object("dog", 1, 2, 3, 4) + voc_object("cow", 1, 2, 3, 4)}})
    (tmp_path / "labels.txt").write_text("dog\ncat\n")
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ("dog", "cat")
    assert dataset.split("train").labels.tolist() == [0]
    assert dataset.split("train").left_out == {"unknown-class": 1}


@pytest.mark.parametrize(("name", "kind"), [("labels.txt", "class"), ("ImageSets/Main/train.txt", "picture")])
def test_a_list_in_another_encoding_is_one_line(tmp_path: Path, name: str, kind: str) -> None:
    write_voc(tmp_path, {"train": {"a": voc_object("dog", 1, 2, 3, 4)}})
    for encoding in ("gbk", "utf-16-le"):
        (tmp_path / name).write_bytes("狗1\n".encode(encoding))
        with pytest.raises(DetrofitError, match=f"{name} should be a text file in UTF-8 with one {kind} name a line"):
            open_dataset(tmp_path)


def test_stems_may_hold_spaces_dots_and_any_picture_ending(tmp_path: Path) -> None:
    write_voc(tmp_path, {"train": {"photo 1": "", "b.c": ""}})
    write_picture(tmp_path / "JPEGImages" / "d.jpeg")
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("d.jpeg\n")
    dataset_names = [open_dataset(_with_class(tmp_path)).split(split).names() for split in ("train", "val")]
    assert dataset_names == [["photo 1.png", "b.c.png"], ["d.jpeg"]]


def test_without_lists_everything_is_for_training(tmp_path: Path) -> None:
    write_voc(tmp_path, {"train": {"a": voc_object("dog", 1, 2, 3, 4)}})
    (tmp_path / "ImageSets" / "Main" / "train.txt").unlink()
    dataset = open_dataset(tmp_path)
    assert dataset.splits == ("train",)
    assert dataset.split("train").names() == ["a.png"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('<!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>', "document type"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', "document type"),
        ("<annotation>", "not valid XML"),
        ("", "not valid XML"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_bad_xml_is_refused_and_entities_are_never_expanded(
    tmp_path: Path, content: str, reason: str, encoding: str
) -> None:
    path = tmp_path / "a.xml"
    path.write_text(content, encoding=encoding)
    annotation = read_annotation(str(path))
    assert [problem.code for problem in annotation.problems] == ["malformed-label"]
    assert reason in annotation.problems[0].detail
    assert annotation.names == []


def test_incomplete_objects_are_named_and_the_others_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    nameless = voc_object("", 1, 2, 3, 4)
    path.write_text(f"<annotation>{nameless}<object><name>x</name></object>{voc_object('y', 1, 2, 3, 4)}</annotation>")
    annotation = read_annotation(str(path))
    assert annotation.names == ["y"]
    assert [problem.where for problem in annotation.problems] == [f"{path} object 1", f"{path} object 2"]


def _with_class(folder: Path) -> Path:
    (folder / "classes.txt").write_text("cat\n")
    return folder


def test_what_is_judged_on_is_not_learnt_where_both_are_one_list(tmp_path: Path) -> None:
    write_voc(tmp_path, {"train": {"a": voc_object("dog", 1, 2, 3, 4), "b": ""}, "val": {"b": ""}})
    lists = tmp_path / "ImageSets" / "Main"
    (lists / "train.txt").rename(lists / "trainval.txt")
    dataset = open_dataset(tmp_path)
    assert {split: dataset.split(split).names() for split in ("train", "val")} == {
        "train": ["a.png"], "val": ["b.png"],
    }  # fmt: skip
