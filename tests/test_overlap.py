from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detrofit.overlap import box_iou, shared_area

SIDE = 12


def boxes_of(corners: list[tuple[int, int, int, int]]) -> np.ndarray:
    return np.array([(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners], float).reshape(-1, 4)


def painted(box: np.ndarray) -> np.ndarray:
    left, top, right, bottom = box.astype(int)
    cells = np.zeros((SIDE, SIDE), bool)
    cells[top:bottom, left:right] = True
    return cells


@given(st.lists(st.tuples(*[st.integers(0, SIDE)] * 4), min_size=1, max_size=5))
def test_overlap_is_that_of_counted_cells(corners) -> None:
    boxes = boxes_of(corners)
    shared, iou = shared_area(boxes[:, None], boxes[None]), box_iou(boxes[:, None], boxes[None])
    for row, one in enumerate(map(painted, boxes)):
        for column, other in enumerate(map(painted, boxes)):
            both, either = (one & other).sum(), (one | other).sum()
            assert shared[row, column] == both
            assert iou[row, column] == (both / either if either else 0)
    np.testing.assert_array_equal(box_iou(boxes[0], boxes), iou[0])
    np.testing.assert_array_equal(box_iou(boxes, boxes), iou.diagonal())
