from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from detrofit.comparison.splits import count_objects, prepare_data
from detrofit.data.demo import draw_demo_dataset
from detrofit.errors import DetrofitError
from tests.evaluation.scenes import make_index

SIDES_AND_LABELS = [(10, 0), (32, 1), (70, 1), (140, 0), (8, 0)]


def test_objects_are_counted_by_the_metric_that_rests_on_them() -> None:
    objects = [([0, 0, side, side], label) for side, label in SIDES_AND_LABELS]
    counts = count_objects(make_index([objects], crowd=[4]))
    sizes = {"AP_small": 2, "AP_medium": 2, "AP_large": 1}  # an area on a bound belongs to both sizes, as in COCO
    assert counts == {"AP": 4, **sizes, "AP/cat": 2, "AP/dog": 2, "AP/bird": 0}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data.yaml of 20 pictures for training, 3 for validation and 5 for the test."""
    draw_demo_dataset(tmp_path / "data", pictures={"train": 20, "val": 3, "test": 5}, size=(64, 64))
    return tmp_path / "data" / "data.yaml"


def copy_pictures(data: Path, source: str, target: str, number: int) -> None:
    """Put pictures of one split, with their labels, into another."""
    for kind in ("images", "labels"):
        for file in sorted((data.parent / kind / source).iterdir())[:number]:
            shutil.copyfile(file, data.parent / kind / target / f"again-{file.name}")


def test_pictures_that_two_splits_share_are_told_of(data: Path, tmp_path: Path) -> None:
    assert prepare_data(data, "val", "test", tmp_path).notes == ()
    copy_pictures(data, "train", "test", 2)
    assert prepare_data(data, "val", "test", tmp_path).notes == ("2 of 7 pictures of 'test' are in 'train' as well",)


@pytest.mark.parametrize(("source", "target"), [("test", "train"), ("test", "val"), ("val", "train")])
def test_a_split_that_is_in_another_one_gives_no_verdict(data: Path, tmp_path: Path, source: str, target: str) -> None:
    copy_pictures(data, source, target, 5)
    one, other = sorted((source, target), key=("train", "val", "test").index)
    with pytest.raises(DetrofitError, match=rf"pictures of '{other}' are in '{one}' as well, so that a verdict would"):
        prepare_data(data, "val", "test", tmp_path)


def test_a_part_of_train_stands_in_for_the_split_that_is_not_there(data: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(data.read_text())
    data.write_text(yaml.safe_dump({key: value for key, value in content.items() if key != "test"}))
    prepared = prepare_data(data, "val", "test", tmp_path / "study")
    assert prepared.notes[0].startswith("the data has 'val' alone beside train: it gives the verdict, and 8 pictures")
    assert prepare_data(data, "val", "val", tmp_path / "study").digest == prepared.digest


def test_what_was_drawn_from_other_data_stays_as_it_is(data: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(data.read_text())
    data.write_text(yaml.safe_dump({key: value for key, value in content.items() if key != "test"}))
    prepare_data(data, "val", "test", tmp_path / "study")
    before = {file: file.read_bytes() for file in (tmp_path / "study" / "data").iterdir()}
    draw_demo_dataset(tmp_path / "other", 1, pictures={"train": 20, "val": 3}, size=(64, 64))
    with pytest.raises(DetrofitError, match=r"holds a division of other data than .*other/data\.yaml; choose"):
        prepare_data(tmp_path / "other" / "data.yaml", "val", "test", tmp_path / "study")
    assert {file: file.read_bytes() for file in before} == before
    (tmp_path / "study" / "data" / "data.yaml").unlink()  # as a kill leaves it
    prepare_data(tmp_path / "other" / "data.yaml", "val", "test", tmp_path / "study")


def test_a_test_split_that_nothing_is_judged_on_may_lack_labels(data: Path, tmp_path: Path) -> None:
    shutil.rmtree(data.parent / "labels" / "test")
    copy_pictures(data, "train", "val", 1)
    with pytest.raises(DetrofitError, match="the split 'test' has no objects, so that there is nothing to score"):
        prepare_data(data, "val", "test", tmp_path / "study")
    found = prepare_data(data, "val", "test", tmp_path / "study", judged=False)
    assert found.notes == ("1 of 4 pictures of 'val' are in 'train' as well",)


def test_no_other_split_takes_the_place_of_one_that_is_misspelt_or_has_moved(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DetrofitError, match=r"has no split 'tset', only: train, val, test; did you mean 'test'"):
        prepare_data(data, "val", "tset", tmp_path / "study")
    shutil.move(data.parent / "images" / "test", data.parent / "images" / "elsewhere")
    with pytest.raises(DetrofitError, match=r"the split 'test' of .* should be .*, which does not exist"):
        prepare_data(data, "val", "test", tmp_path / "study")
    assert not (tmp_path / "study").exists()
