from __future__ import annotations

import itertools
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detrofit.data.convert import convert_dataset
from detrofit.data.index import DetectionIndex
from detrofit.data.open import open_dataset
from detrofit.errors import DetrofitError
from tests.data.small_datasets import voc_object, write_coco, write_picture, write_voc, write_yolo

KINDS = ("coco", "yolo", "voc")
CATEGORIES = ((3, "cat"), (7, "traffic light"), (90, "猫 <&>"))
TOLERANCE = 2e-4  # pixels: four decimals in COCO, nine digits in YOLO

box = st.tuples(
    st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 2), st.booleans()
)
picture = st.tuples(st.integers(8, 99), st.integers(8, 99), st.lists(box, max_size=4))
Picture = tuple[int, int, list[tuple[float, ...]]]


def make_coco(folder: Path, pictures: list[Picture]) -> None:
    """A COCO data set of two splits with the given pictures in each; the picture files hold no more than a pixel."""
    for split in ("train", "val"):
        images = [
            {"id": 1000 - 3 * number, "file_name": f"deep/{number}.{split}.png", "width": width, "height": height}
            for number, (width, height, _) in enumerate(pictures)
        ]
        annotations = [
            {
                "image_id": image["id"],
                "category_id": CATEGORIES[int(label)][0],
                "bbox": [x * width, y * height, min(w, 1 - x) * width, min(h, 1 - y) * height],
                "iscrowd": int(crowd),
            }
            for image, (width, height, boxes) in zip(images, pictures, strict=True)
            for x, y, w, h, label, crowd in boxes
        ]
        for image in images:
            write_picture(folder / "images" / image["file_name"], image["width"], image["height"])
        write_coco(folder, split, images, annotations, CATEGORIES)


def assert_same_boxes(found: DetectionIndex, expected: DetectionIndex, with_crowds: bool) -> None:
    """Equal but for the order of pictures: forms without lists order them by name."""
    order = {Path(name).stem.rpartition("_")[2]: position for position, name in enumerate(found.names())}
    assert len(found) == len(expected)
    for position, name in enumerate(expected.names()):
        other = order[Path(name).stem.rpartition("_")[2]]
        kept = np.ones(len(expected.boxes(position)), bool) if with_crowds else ~expected.crowd_of(position)
        np.testing.assert_allclose(found.boxes(other), expected.boxes(position)[kept], atol=TOLERANCE)
        np.testing.assert_array_equal(found.labels_of(other), expected.labels_of(position)[kept])
        if with_crowds:
            np.testing.assert_array_equal(found.crowd_of(other), expected.crowd_of(position))


@settings(max_examples=5)
@given(pictures=st.lists(picture, min_size=1, max_size=3))
def test_every_pair_of_forms_keeps_what_both_can_hold(pictures: list[Picture]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_coco(folder / "source", pictures)
        source = open_dataset(folder / "source")
        for first, second in itertools.product(KINDS, KINDS):
            once = folder / first
            if not once.exists():
                convert_dataset(source, first, once)
            convert_dataset(open_dataset(once), second, folder / f"{first}-{second}")
            result = open_dataset(folder / f"{first}-{second}")
            assert result.kind == second
            assert result.splits == source.splits
            assert result.class_names == source.class_names
            for split in source.splits:
                assert_same_boxes(result.split(split), source.split(split), with_crowds="yolo" not in (first, second))


def test_coco_keeps_ids_areas_and_names(tmp_path: Path) -> None:
    source = open_dataset(write_coco(tmp_path / "source"))
    result = convert_dataset(source, "coco", tmp_path / "copy")
    old, new = source.split("train"), open_dataset(tmp_path / "copy").split("train")
    assert new.category_ids == (3, 7, 90)
    for name in ("image_ids", "boxes_xyxy", "labels", "areas", "crowd", "widths", "heights"):
        np.testing.assert_array_equal(getattr(new, name), getattr(old, name))
    assert new.names() == old.names()
    assert new.path(0).read_bytes() == old.path(0).read_bytes()
    assert (result.pictures, result.boxes, result.not_held) == (2, 2, ())


def test_what_a_form_cannot_hold_is_said(tmp_path: Path) -> None:
    source = open_dataset(write_coco(tmp_path / "source"))
    to_yolo = convert_dataset(source, "yolo", tmp_path / "yolo")
    assert to_yolo.boxes == len(open_dataset(tmp_path / "yolo").split("train").labels) == 1
    assert to_yolo.not_held == (
        "1 boxes of crowds or difficult objects",
        "category ids (YOLO numbers classes from 0)",
        "picture ids",
        "1 areas that differ from their boxes'",
    )
    assert not any("crowds" in phrase for phrase in convert_dataset(source, "voc", tmp_path / "voc").not_held)


def test_decimals_stay_as_short_as_they_were(tmp_path: Path) -> None:
    write_voc(tmp_path / "source", {"train": {"a": voc_object("cat", 1, 2.3, 20, 25.7)}})
    convert_dataset(open_dataset(tmp_path / "source"), "coco", tmp_path / "coco")
    document = json.loads((tmp_path / "coco" / "annotations" / "train.json").read_text())
    assert document["annotations"][0]["bbox"] == [1, 2.3, 19, 23.4]
    convert_dataset(open_dataset(tmp_path / "coco"), "voc", tmp_path / "voc")
    text = (tmp_path / "voc" / "Annotations" / "a.xml").read_text()
    assert "<xmin>1</xmin>" in text and "<ymax>25.7</ymax>" in text


def test_names_that_would_collide_or_leave_the_folder_are_changed(tmp_path: Path) -> None:
    names = ["a.png", "a.jpg", "sub/a.png", "../outside.png", "b.jpg.png", "images/c.png", "d"]
    images = [{"id": number, "file_name": name, "width": 40, "height": 30} for number, name in enumerate(names, 1)]
    annotations = [
        {"image_id": number, "category_id": 3, "bbox": [number, 1, 5, 5]} for number in range(1, len(names) + 1)
    ]
    for name in names:
        write_picture(tmp_path / "source" / "images" / f"{name}.png").rename(tmp_path / "source" / "images" / name)
    write_coco(tmp_path / "source", "train", images, annotations)
    for kind in KINDS:
        convert_dataset(open_dataset(tmp_path / "source"), kind, tmp_path / kind)
        index = open_dataset(tmp_path / kind).split("train")
        assert sorted(index.boxes_xyxy[:, 0].tolist()) == [1, 2, 3, 4, 5, 6, 7]
        assert np.diff(index.box_offsets).tolist() == [1] * 7
        assert all(index.path(position).resolve().is_relative_to(tmp_path / kind) for position in range(7))


def test_classes_of_one_name_cannot_become_voc(tmp_path: Path) -> None:
    source = open_dataset(write_coco(tmp_path / "source", categories=((3, "cat"), (90, "cat "))))
    with pytest.raises(DetrofitError, match="'cat' does not name just one"):
        convert_dataset(source, "voc", tmp_path / "voc")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["source"]


def test_a_destination_with_content_is_refused_and_untouched(tmp_path: Path) -> None:
    source = open_dataset(write_coco(tmp_path / "source"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(DetrofitError, match="is not empty"):
        convert_dataset(source, "yolo", tmp_path / "full")
    assert [each.name for each in (tmp_path / "full").iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    assert convert_dataset(source, "yolo", tmp_path / "empty").destination == tmp_path / "empty"


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    source = open_dataset(write_coco(tmp_path / "source"))
    (tmp_path / "source" / "images" / "train_b.png").unlink()
    (tmp_path / "source" / "images" / "train_b.png").mkdir()
    with pytest.raises(DetrofitError, match=r"train_b\.png is no file"):
        convert_dataset(source, "voc", tmp_path / "voc")
    with pytest.raises(DetrofitError, match="unknown form 'vok', choose coco, yolo, voc; did you mean 'voc'"):
        convert_dataset(source, "vok", tmp_path / "voc")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["source"]


def test_pictures_that_do_not_exist_are_left_out_and_counted(tmp_path: Path) -> None:
    source = open_dataset(write_coco(tmp_path / "source"))
    (tmp_path / "source" / "images" / "train_a.png").unlink()
    done = convert_dataset(source, "coco", tmp_path / "clean")
    assert (done.pictures, done.boxes) == (1, 0)
    assert done.not_held == ("1 labels or pictures that cannot be used (detrofit data check names them)",)
    assert open_dataset(tmp_path / "clean").split("train").names() == ["train_b.png"]
    (tmp_path / "source" / "images" / "train_b.png").unlink()
    with pytest.raises(DetrofitError, match=r"no picture of the split 'train' exists, the first should be .*train_a"):
        convert_dataset(source, "coco", tmp_path / "empty")


def test_links_share_the_pictures(tmp_path: Path) -> None:
    source = open_dataset(write_yolo(tmp_path / "source", {"train/a": "0 .5 .5 .5 .5"}))
    convert_dataset(source, "voc", tmp_path / "linked", link=True)
    assert (tmp_path / "linked" / "JPEGImages" / "a.png").samefile(tmp_path / "source" / "images" / "train" / "a.png")
