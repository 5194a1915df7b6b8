from __future__ import annotations

from detrofit.comparison.splits import count_objects
from tests.evaluation.scenes import make_index

SIDES_AND_LABELS = [(10, 0), (32, 1), (70, 1), (140, 0), (8, 0)]


def test_objects_are_counted_by_the_metric_that_rests_on_them() -> None:
    objects = [([0, 0, side, side], label) for side, label in SIDES_AND_LABELS]
    counts = count_objects(make_index([objects], crowd=[4]))
    sizes = {"AP_small": 2, "AP_medium": 2, "AP_large": 1}  # an area on a bound belongs to both sizes, as in COCO
    assert counts == {"AP": 4, **sizes, "AP/cat": 2, "AP/dog": 2, "AP/bird": 0}
