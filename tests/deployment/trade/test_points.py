from __future__ import annotations

import pytest

from detrofit import DetrofitError, build
from detrofit.deployment.trade.points import Knobs, Point, grid, parse_stem
from tests.deployment.models import model_info


@pytest.fixture(scope="module")
def model():
    return build("rtdetr-n", num_classes=3, settings={"num_queries": 40})


def test_the_grid_starts_with_the_point_as_trained(model):
    points = grid(model, model_info("rtdetr-n", (128, 256)), Knobs())
    assert points[0] == Point((128, 256), 40, 3)
    assert len(points) == len(set(points)) == len({point.size for point in points}) * 3 * 3
    assert {point.size for point in points} >= {(64, 128), (96, 192), (128, 256), (160, 320)}
    assert all(side % 32 == 0 for point in points for side in point.size)
    assert {point.num_queries for point in points} == {10, 20, 40}
    assert {point.decoder_layers for point in points} == {1, 2, 3}


def test_given_values_are_tried_beside_the_point_as_trained(model):
    points = grid(model, model_info("rtdetr-n", (128, 128)), Knobs(((64, 64),), (5, 400), (2,)))
    assert points == [Point((128, 128), 40, 3), Point((64, 64), 5, 2), Point((64, 64), 400, 2)]


@pytest.mark.parametrize(
    ("knobs", "line"),
    [
        (Knobs(sizes=((100, 100),)), "100,100 is no multiple of 32"),
        (Knobs(num_queries=(0,)), "model.num_queries: input should be greater than or equal to 1"),
        (Knobs(num_queries=(5000,)), "model.num_queries: input should be less than or equal to 3000"),
        (Knobs(decoder_layers=(4,)), "has 3 decoder layers, of which 4 cannot be kept"),
    ],
)
def test_what_the_model_cannot_do_is_one_line(model, knobs, line):
    with pytest.raises(DetrofitError, match=line):
        grid(model, model_info("rtdetr-n"), knobs)


def test_a_file_name_says_its_point():
    point = Point((320, 480), 100, 2)
    assert parse_stem(point.stem) == parse_stem(f"best-{point.stem}") == point
    assert parse_stem("best") is None
