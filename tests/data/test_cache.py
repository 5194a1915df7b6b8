from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detrofit.data import cache
from detrofit.data.coco import CocoReader
from detrofit.data.open import open_dataset
from tests.data.small_datasets import write_coco


def no_reading(*_: object) -> None:
    raise AssertionError("read the files although the cache has them")


def test_a_second_opening_reads_the_cache_and_gives_the_same(
    tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotation = {"id": 1, "image_id": 99, "category_id": 3, "bbox": [1, 2, 3, 4]}
    path = write_coco(tmp_path / "data", annotations=[annotation])
    first = open_dataset(path).split("train")
    monkeypatch.setattr(CocoReader, "read", no_reading)
    second = open_dataset(path).split("train")
    for name in ("image_ids", "boxes_xyxy", "labels", "name_bytes", "widths"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert second.left_out == first.left_out == {"orphan-annotation": 1}
    assert sorted(each.name for each in (tmp_path / "data").iterdir()) == ["annotations", "images"]
    assert [each.suffix for each in (cache_folder / "data").iterdir()] == [".npz"]


def test_a_data_set_that_moved_still_hits_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_coco(tmp_path / "old")
    open_dataset(tmp_path / "old").split("train")
    (tmp_path / "old").rename(tmp_path / "new")
    monkeypatch.setattr(CocoReader, "read", no_reading)
    assert open_dataset(tmp_path / "new").split("train").path(0).is_file()


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"half"])
def test_a_damaged_entry_is_ignored_and_replaced(tmp_path: Path, cache_folder: Path, damage: bytes) -> None:
    path = write_coco(tmp_path)
    expected = open_dataset(path).split("train").boxes_xyxy
    (entry,) = (cache_folder / "data").iterdir()
    whole = entry.read_bytes()
    entry.write_bytes(whole[: len(whole) // 2] if damage == b"half" else damage)
    np.testing.assert_array_equal(open_dataset(path).split("train").boxes_xyxy, expected)
    assert entry.stat().st_size == len(whole)


def test_a_flipped_byte_is_noticed(tmp_path: Path, cache_folder: Path) -> None:
    path = write_coco(tmp_path)
    expected = open_dataset(path).split("train").boxes_xyxy
    (entry,) = (cache_folder / "data").iterdir()
    whole = bytearray(entry.read_bytes())
    place = whole.index(np.float64(22).tobytes())
    whole[place + 6] ^= 1
    entry.write_bytes(whole)
    np.testing.assert_array_equal(open_dataset(path).split("train").boxes_xyxy, expected)


def test_an_entry_with_pickled_objects_is_never_loaded(cache_folder: Path) -> None:
    (cache_folder / "data").mkdir()
    np.savez(cache_folder / "data" / f"key-{cache.FORMAT}.npz", text=np.array([{"a": 1}], dtype=object))
    assert cache.load("key") is None


def test_a_changed_json_is_read_again(tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    assert len(open_dataset(path).split("train").labels) == 2
    write_coco(tmp_path, annotations=[])
    assert len(open_dataset(path).split("train").labels) == 0


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("DETROFIT_CACHE", str(blocked))
    assert len(open_dataset(write_coco(tmp_path)).split("train")) == 2


def test_old_entries_are_forgotten(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "KEPT_ENTRIES", 2)
    for key in "abcd":
        cache.store(key, {"x": np.zeros(1)})
    assert len(list((cache_folder / "data").iterdir())) == 2
