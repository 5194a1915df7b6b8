from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detrofit.data.images import read_image, read_labelled
from detrofit.errors import DetrofitError
from tests.data.small_index import drawn_index, index_of


def test_an_image_is_channels_first_rgb(tmp_path: Path) -> None:
    Image.new("RGB", (5, 3), (1, 2, 3)).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.dtype == torch.uint8 and image.shape == (3, 3, 5)
    assert image[:, 0, 0].tolist() == [1, 2, 3]


def test_boxes_come_with_their_picture_in_pixels(tmp_path: Path) -> None:
    index = drawn_index(tmp_path, 3)
    picture = read_labelled(index, 1)
    assert np.array_equal(picture.boxes, index.boxes(1)) and picture.labels.tolist() == index.labels_of(1).tolist()
    assert (picture.height, picture.width) == (90, 120)
    assert len(read_labelled(index, 2).boxes) == 0


def test_crowd_boxes_are_not_trained_on(tmp_path: Path) -> None:
    index = drawn_index(tmp_path, 2)
    crowd = np.zeros(len(index.labels), dtype=bool)
    crowd[0] = True
    picture = read_labelled(replace(index, crowd=crowd), 0)
    assert np.array_equal(picture.boxes, index.boxes(0)[1:])


def test_a_picture_decoded_smaller_has_boxes_to_match(tmp_path: Path) -> None:
    Image.new("RGB", (801, 400)).save(tmp_path / "a.jpg")
    index = index_of(tmp_path, ["a.jpg"], [(400, 801)], [np.array([[0, 100, 801, 300]])], [np.array([0])])
    picture = read_labelled(index, 0, at_least=(100, 100))
    assert picture.pixels.shape == (3, 100, 201)
    assert np.allclose(picture.boxes, [[0, 25, 201, 75]])


def test_a_picture_of_another_size_than_its_labels_say_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (80, 60)).save(tmp_path / "turned.jpg")
    index = index_of(tmp_path, ["turned.jpg"], [(80, 60)], [np.zeros((0, 4))], [np.zeros(0)])
    with pytest.raises(DetrofitError, match=r"turned.jpg is 80 x 60 pixels, but its labels are for 60 x 80"):
        read_labelled(index, 0, at_least=(10, 10))
