"""Loading pictures in tiles."""

from __future__ import annotations

from collections import Counter

import pytest

from detrofit.data import tiles
from detrofit.data.tiles import TileLoader
from detrofit.tiling import WHOLE, Tiling
from tests.data.small_index import drawn_index

TILING = Tiling(64, 16)  # six tiles of a picture of 90 x 120, and the whole one


def test_all_tiles_and_the_whole_of_each_picture_come_and_it_is_decoded_once(tmp_path, monkeypatch):
    decoded = Counter()

    def note(index, image, real=tiles.read_labelled):
        decoded[image] += 1
        return real(index, image)

    monkeypatch.setattr(tiles, "read_labelled", note)
    tiles._pixels.cache_clear()
    index = drawn_index(tmp_path, 3)
    loader = TileLoader(index, (32, 32), TILING, 4, workers=0)
    seen = [(target["image_index"], target["tile"]) for _, targets in loader for target in targets]
    count = len(loader.windows(0))
    assert count > 4 and seen == [(image, tile) for image in range(3) for tile in (*range(count), WHOLE)]
    assert decoded == {0: 1, 1: 1, 2: 1}


@pytest.mark.parametrize(("batch", "workers"), [(8, 2), (2, 1)])
def test_one_worker_alone_loads_pictures_of_more_than_a_batch(tmp_path, batch, workers):
    assert TileLoader(drawn_index(tmp_path, 2), (32, 32), TILING, batch, workers=2).workers == workers
