from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detrofit.data.index import pack_names
from detrofit.errors import DetrofitError
from detrofit.evaluation.coco import coco_metrics
from detrofit.evaluation.predictions import Predictions
from tests.evaluation.scenes import make_index, random_scene


def one(score: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.array([[1, 2, 3, 4]]), np.array([score]), np.array([0])


def test_merging_shards_counts_a_picture_once() -> None:
    first, second = Predictions(), Predictions()
    first.add(0, *one(0.5))
    first.add(2, *one(0.6))
    second.add(1, *one(0.7))
    second.add(0, *one(0.8))  # what a sampler pads the last batch with
    merged = Predictions.merge([first, second])
    assert len(merged) == 3
    assert merged[0][1].tolist() == [0.5], "the first prediction of a picture is the one that counts"


def test_written_results_carry_original_ids_and_read_back_to_the_same_metrics(tmp_path: Path) -> None:
    index, predictions = random_scene(1)
    file = tmp_path / "with space" / "predictions.json"
    predictions.write(file, index)
    records = json.loads(file.read_text())
    assert {record["category_id"] for record in records} <= {90, 3, 7}
    assert {record["image_id"] for record in records} <= set(index.image_ids.tolist())
    again = Predictions.read(file, index)
    assert len(again) == len(index)
    assert again.to_coco(index) == records
    before, after = coco_metrics(index, predictions), coco_metrics(index, again)
    np.testing.assert_array_equal(before.precision, after.precision)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "cannot be read as JSON"),
        ("{}", "no list of COCO results"),
        ('[{"image_id": 1}]', "no list of COCO results"),
        ('[{"image_id": 5, "category_id": 3, "bbox": [0, 0, 1, 1], "score": 1}]', "image_id 5 is not in the data"),
        ('[{"image_id": 1000, "category_id": 4, "bbox": [0, 0, 1, 1], "score": 1}]', "category_id 4 is not in"),
        ('[{"image_id": 1000, "category_id": 3, "bbox": [0, 0, 1], "score": 1}]', "result 0 needs a bbox of four"),
        ('[{"image_id": 1000, "category_id": 3, "bbox": [0, 0, NaN, 1], "score": 1}]', "result 0 needs a bbox of four"),
        ('[{"image_id": 1000, "category_id": 3, "bbox": [0, 0, 1, 1], "score": null}]', "a finite score"),
        ('[{"image_id": [5], "category_id": 3, "bbox": [0, 0, 1, 1], "score": 1}]', "numbers or names as ids"),
    ],
)
def test_a_wrong_file_of_results_is_one_clear_line(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "predictions.json"
    file.write_text(content)
    with pytest.raises(DetrofitError, match=message) as caught:
        Predictions.read(file, make_index([[]]))
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)


def test_a_missing_file_of_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(DetrofitError, match="no predictions at"):
        Predictions.read(tmp_path / "absent.json", make_index([[]]))


def test_other_tools_may_call_pictures_by_name_and_compress(tmp_path: Path) -> None:
    index, predictions = random_scene(3)
    records = predictions.to_coco(index)
    by_id = {int(number): index.name(position) for position, number in enumerate(index.image_ids)}
    stems = [{**each, "image_id": Path(by_id[each["image_id"]]).stem} for each in records]
    named = [{**each, "image_id": -1, "file_name": by_id[each["image_id"]]} for each in records]
    for number, form in enumerate((records, stems, named)):
        file = tmp_path / f"{number}.json.gz"
        file.write_bytes(gzip.compress(json.dumps(form).encode()))
        assert Predictions.read(file, index).to_coco(index) == records
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DetrofitError, match="cannot be read as JSON"):
        Predictions.read(file, index)


def test_numbers_of_file_names_are_read_all_or_none(tmp_path: Path) -> None:
    index = make_index([[], [], []])
    names, offsets = pack_names(["set/007.jpg", "set/1000.jpg", "set/12.jpg"])
    index = replace(index, name_bytes=names, name_offsets=offsets)  # ids 1000, 993, 986

    def read(*image_ids: int) -> list[int]:
        records = [{"image_id": each, "category_id": 3, "bbox": [0, 0, 9, 9], "score": 0.5} for each in image_ids]
        (tmp_path / "found.json").write_text(json.dumps(records))
        found = Predictions.read(tmp_path / "found.json", index)
        return [len(found[position][1]) for position in range(3)]

    assert read(7, 1000, 1000) == [1, 2, 0], "1000 is a name where 7 can be nothing else"
    assert read(986, 1000) == [1, 0, 1], "and an id where all are ids"
    with pytest.raises(DetrofitError, match="image_id 7 is not in the data"):
        read(7, 993)


def test_an_id_that_may_be_the_name_of_another_picture_is_not_guessed(tmp_path: Path) -> None:
    index = make_index([[([0, 0, 9, 9], 0)], [], []])
    names, offsets = pack_names(["1.jpg", "10.jpg", "2.jpg"])
    ids = np.array([1, 2, 3])  # as data without ids get them
    index = replace(index, name_bytes=names, name_offsets=offsets, image_ids=ids)
    predictions, file = Predictions(), tmp_path / "found.json"
    predictions.add(2, np.array([[0, 0, 5, 5]]), np.array([0.5]), np.array([0]))
    predictions.write(file, index)
    assert Predictions.read(file, index).to_coco(index) == predictions.to_coco(index), "our own files say which it is"
    record = {"category_id": index.category_ids[0], "bbox": [0, 0, 5, 5], "score": 0.5}
    file.write_text(json.dumps([{"image_id": 1, **record}, {"image_id": 2, **record}]))
    with pytest.raises(
        DetrofitError, match=r"whether image_id 2 is the picture '2' or .* give each result a file_name"
    ):
        Predictions.read(file, index)
    file.write_text(json.dumps([{"image_id": 2, **record}]))
    own = replace(index, image_ids=np.array([1, 3, 2]))
    assert len(Predictions.read(file, own)[2][1]) == 1, "data with ids of their own mean these"
    file.write_text(json.dumps([{"image_id": 1, **record}]))
    assert len(Predictions.read(file, index)[0][1]) == 1, "either way the same picture"
