from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detrofit.data.index import pack_names, unpack_names
from detrofit.data.open import open_dataset
from tests.data.small_datasets import write_coco


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20)))
def test_names_survive_packing(names: list[str]) -> None:
    assert unpack_names(*pack_names(names)) == names


def test_an_index_gives_views_that_nobody_can_change(tmp_path: Path) -> None:
    write_coco(tmp_path)
    index = open_dataset(tmp_path).split("train")
    assert np.shares_memory(index.boxes(0), index.boxes_xyxy)
    with pytest.raises(ValueError, match="read-only"):
        index.boxes(0)[:] = 0


def test_an_index_survives_pickling(tmp_path: Path) -> None:
    write_coco(tmp_path)
    index = open_dataset(tmp_path).split("train")
    copy = pickle.loads(pickle.dumps(index))
    assert len(copy) == 2
    assert copy.path(1) == index.path(1) == tmp_path / "images" / "train_b.png"
    assert copy.names() == ["train_a.png", "train_b.png"]
    np.testing.assert_array_equal(copy.boxes_xyxy, index.boxes_xyxy)
    np.testing.assert_array_equal(copy.areas_of(0), [150.5, 64])
