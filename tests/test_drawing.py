from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from detrofit.drawing import PALETTE, colour_of, draw_boxes


def test_a_box_has_the_colour_of_its_class_on_its_edge_only() -> None:
    picture = np.zeros((200, 300, 3), np.uint8)
    drawn = np.asarray(draw_boxes(picture, np.array([[50, 60, 150, 160]]), [""], [colour_of(1)]))
    expected = [int(PALETTE[1][i : i + 2], 16) for i in (1, 3, 5)]
    assert drawn[60, 100].tolist() == drawn[160, 100].tolist() == drawn[100, 50].tolist() == expected
    assert not drawn[100, 100].any() and not drawn[10, 10].any() and not picture.any()


def test_lines_grow_with_the_picture() -> None:
    def thickness(side: int) -> int:
        box = np.array([[side / 4, side / 4, side / 2, side / 2]])
        drawn = np.asarray(draw_boxes(np.zeros((side, side, 3), np.uint8), box, [""], ["#FFFFFF"]))
        return int((drawn[side * 3 // 8, : side * 3 // 8, 0] > 0).sum())

    assert thickness(3000) > 3 * thickness(400) > 3


@pytest.mark.parametrize("caption", ["кошка 0.90", "猫 0.90", "🦊", "a" * 300, "line\nbreak", "é"])
def test_any_class_name_can_be_drawn(caption: str) -> None:
    picture = Image.new("RGB", (64, 48))
    drawn = draw_boxes(picture, np.array([[10, 30, 40, 45]]), [caption], ["#E69F00"])
    assert drawn.size == picture.size and np.asarray(drawn).any()


@pytest.mark.parametrize(
    "box", [[-50, -50, 500, 500], [5, 5, 5, 5], [30, 30, 10, 10], [900, 900, 950, 950], [0, 0, 0.2, 0.2]]
)
@pytest.mark.parametrize("size", [(1, 1), (20, 3000), (64, 64)])
def test_no_box_and_no_picture_is_too_odd_to_draw(box: list[float], size: tuple[int, int]) -> None:
    assert draw_boxes(np.zeros((*size, 3), np.uint8), np.array([box]), ["cat 0.50"], ["#0072B2"]).size == size[::-1]


def test_colours_past_the_palette_start_again() -> None:
    assert colour_of(len(PALETTE) + 2) == colour_of(2)
