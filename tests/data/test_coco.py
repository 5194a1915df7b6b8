from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from detrofit.data.open import open_dataset
from detrofit.errors import DetrofitError
from tests.data.small_datasets import write_coco, write_picture


def test_category_ids_with_gaps_become_contiguous_and_come_back(tmp_path: Path) -> None:
    dataset = open_dataset(write_coco(tmp_path))
    index = dataset.split("train")
    assert dataset.category_ids == (3, 7, 90)
    assert dataset.class_names == ("cat", "dog", "toothbrush")
    np.testing.assert_array_equal(index.labels, [2, 0])
    assert [index.category_ids[label] for label in index.labels_of(0)] == [90, 3]
    np.testing.assert_array_equal(index.boxes(0), [[1, 2, 11, 22], [5.5, 5, 13.5, 13]])
    np.testing.assert_array_equal(index.crowd_of(0), [False, True])
    np.testing.assert_array_equal(index.areas, [150.5, 64])
    np.testing.assert_array_equal(index.image_ids, [50, 7])
    assert len(index.boxes(1)) == 0


def test_categories_are_sorted_by_id_however_the_file_lists_them(tmp_path: Path) -> None:
    dataset = open_dataset(write_coco(tmp_path, categories=((90, "toothbrush"), (3, "cat"))))
    assert dataset.category_ids == (3, 90)
    np.testing.assert_array_equal(dataset.split("train").labels, [1, 0])


def test_annotations_in_any_order_reach_their_pictures(tmp_path: Path) -> None:
    rows = [(7, 1), (50, 2), (7, 3), (50, 4)]
    annotations = [{"image_id": image, "category_id": 3, "bbox": [0, 0, side, 1]} for image, side in rows]
    index = open_dataset(write_coco(tmp_path, annotations=annotations)).split("train")
    assert index.boxes(0)[:, 2].tolist() == [2, 4]
    assert index.boxes(1)[:, 2].tolist() == [1, 3]
    np.testing.assert_array_equal(index.areas, [2, 4, 1, 3])


@pytest.mark.filterwarnings("error")
def test_malformed_annotations_are_left_out_and_the_rest_stays(tmp_path: Path) -> None:
    good = {"id": 1, "image_id": 50, "category_id": 7, "bbox": [1, 2, 3, 4]}
    bad = [
        {**good, "bbox": [1, 2, 3]},
        {**good, "bbox": [1, 2, 0, 4]},
        {**good, "bbox": [1, 2, -1e300, 4]},
        {**good, "bbox": [float("nan"), 2, 3, 4]},
        {**good, "category_id": 8},
        {**good, "image_id": 99},
        {"id": 9, "image_id": 50, "category_id": 7},
        "text",
    ]
    index = open_dataset(write_coco(tmp_path, annotations=[good, *bad])).split("train")
    np.testing.assert_array_equal(index.boxes_xyxy, [[1, 2, 4, 6]])
    expected = {"malformed-label": 3, "degenerate-box": 3, "unknown-class": 1, "orphan-annotation": 1}
    assert index.left_out == expected


def test_a_split_with_other_names_for_the_same_ids_is_refused(tmp_path: Path) -> None:
    write_coco(tmp_path, "train", categories=((0, "cat"), (1, "dog")))
    write_coco(tmp_path, "val", categories=((1, "cat"), (2, "dog")))
    with pytest.raises(DetrofitError, match="category 1 is 'dog' in 'train' but 'cat' in 'val'"):
        open_dataset(tmp_path).split("val")


def test_a_yaml_maps_splits_to_json_and_folder(tmp_path: Path) -> None:
    write_coco(tmp_path / "data", "first")
    (tmp_path / "data" / "images").rename(tmp_path / "pictures")
    path = tmp_path / "mapping.yaml"
    path.write_text("val:\n  annotations: data/annotations/first.json\n  images: pictures\n")
    dataset = open_dataset(path)
    assert dataset.splits == ("val",)
    assert dataset.split("val").path(0).is_file()
    path.write_text("val:\n  annotations: data/annotations/first.json\n  images: absent\n")
    with pytest.raises(DetrofitError, match=r"should be in .*absent: no such folder"):
        open_dataset(path)
    path.write_text("vall:\n  annotations: data/annotations/first.json\n")
    with pytest.raises(DetrofitError, match="unknown split 'vall'; did you mean 'val'"):
        open_dataset(path)


@pytest.mark.parametrize(
    ("json_path", "picture"),
    [
        ("annotations/instances_train2017.json", "train2017/a.png"),
        ("annotations/instances_train2017.json", "images/train2017/a.png"),
        ("annotations/train.json", "images/train/a.png"),
        ("train.json", "a.png"),
        ("train/_annotations.coco.json", "train/a.png"),
    ],
)
def test_pictures_are_found_where_people_put_them(tmp_path: Path, json_path: str, picture: str) -> None:
    write_picture(tmp_path / picture)
    path = tmp_path / json_path
    path.parent.mkdir(parents=True, exist_ok=True)
    image = {"id": 1, "file_name": "a.png", "width": 40, "height": 30}
    path.write_text(json.dumps({"images": [image], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}))
    for source in (path, tmp_path):
        dataset = open_dataset(source)
        assert dataset.splits == ("train",)
        assert dataset.split("train").path(0) == tmp_path / picture


def test_pictures_are_found_though_the_first_is_missing_and_the_json_ends_with_them(tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    (tmp_path / "images" / "train").mkdir()  # where one would look first
    (tmp_path / "images" / "train_a.png").unlink()
    document = json.loads(path.read_text())
    document["annotations"] *= 10_000
    path.write_text(json.dumps(document, sort_keys=True))
    assert open_dataset(path).split("train").path(1).is_file()


def test_backslashes_part_folders_unless_a_file_is_named_so(tmp_path: Path) -> None:
    images = [{"id": number, "file_name": f"deep\\{number}.png", "width": 40, "height": 30} for number in (50, 7)]
    path = write_coco(tmp_path, images=images)
    write_picture(tmp_path / "images" / "deep" / "50.png")
    write_picture(tmp_path / "images" / "deep\\7.png")  # under Windows the same folder
    index = open_dataset(path).split("train")
    assert [index.path(position).is_file() for position in range(2)] == [True, True]
    assert not open_dataset(path).reader.strays()


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("instances_val2017", "val"),
        ("pretrained_val", "val"),
        ("validation", "val"),
        ("test-dev", "test"),
        ("boxes", "train"),
    ],
)
def test_a_json_by_itself_is_the_split_that_its_name_says(tmp_path: Path, name: str, split: str) -> None:
    path = write_coco(tmp_path).rename(tmp_path / "annotations" / f"{name}.json")
    assert open_dataset(path).splits == (split,)


def test_sizes_that_the_json_leaves_out_come_from_the_pictures(tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    document = json.loads(path.read_text())
    for image in document["images"]:
        del image["width"], image["height"]
    path.write_text(json.dumps(document))
    index = open_dataset(path).split("train")
    assert list(zip(index.widths.tolist(), index.heights.tolist(), strict=True)) == [(40, 30), (20, 10)]


def test_a_repeated_picture_id_keeps_the_first(tmp_path: Path) -> None:
    images = [{"id": 50, "file_name": name, "width": 40, "height": 30} for name in ("a.png", "b.png")]
    index = open_dataset(write_coco(tmp_path, images=images)).split("train")
    assert index.names() == ["a.png"]
    assert len(index.boxes(0)) == 2
    assert index.left_out == {"duplicate-image-id": 1}
