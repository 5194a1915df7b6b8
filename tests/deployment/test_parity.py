from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detrofit.deployment.parity import CheckPictures, ParityLimits, compare, differences, pair_detections
from tests.deployment.models import draw_pictures


class StubBackend:
    """Three fixed detections, moved by pixels and lowered by a score."""

    class_names = ("cat", "dog")
    category_ids = (1, 2)
    input_size = (100, 100)
    threshold = 0.5
    max_detections = 10
    batch = 2

    def __init__(self, moved: float = 0, lowered: float = 0, label: int = 1) -> None:
        self.moved, self.lowered, self.label = moved, lowered, label

    def __call__(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        boxes = np.array([[10, 10, 40, 40], [50, 50, 90, 90], [0, 0, 99, 99]], np.float32)
        boxes[0] += self.moved
        scores = np.array([0.9, 0.8, 0.1], np.float32) - np.array([0, self.lowered, 0], np.float32)
        return (boxes / 100)[None], scores[None], np.array([[0, self.label, 1]])


def _record(other: StubBackend):  # type: ignore[no-untyped-def]
    return compare(StubBackend(), other, CheckPictures("drawn", draw_pictures(1)), ParityLimits())


def test_equal_backends_agree() -> None:
    record = _record(StubBackend())
    assert (record.compared, record.matched_share, record.failure()) == (6, 1.0, None)
    assert record.to_dict()["passed"]


@pytest.mark.parametrize("other", [StubBackend(moved=2), StubBackend(lowered=0.1), StubBackend(label=0)])
def test_a_moved_box_a_lower_score_and_another_class_fail(other: StubBackend) -> None:
    record = _record(other)
    assert record.matched_share < 0.99
    assert "match" in str(record.failure()) and not record.to_dict()["passed"]


def test_the_largest_differences_are_told() -> None:
    assert _record(StubBackend(moved=2)).largest_box_difference == pytest.approx(2, abs=1e-4)
    assert _record(StubBackend(lowered=0.1)).largest_score_difference == pytest.approx(0.1, abs=1e-6)


@given(st.permutations(range(6)), st.integers(0, 100))
def test_pairs_do_not_depend_on_the_order(order: list[int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    found = generator.random((6, 4)) * 100, generator.random(6), generator.integers(0, 3, 6)
    shuffled = found[0][order], found[1][order], found[2][order]
    pairs = pair_detections(found, shuffled)
    box, score = differences(found, shuffled, pairs)
    assert len(pairs[0]) == 6 and box.max() == 0 and score.max() == 0


class _NotFinite(StubBackend):
    """As a file whose numbers run over: the second picture of a batch has scores that are none."""

    def __call__(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        boxes, scores, labels = (np.repeat(each, len(pictures), axis=0) for each in super().__call__(pictures))
        scores[1:, :2] = np.nan
        boxes[1:, 2] = np.inf
        return boxes, scores, labels


class _LeaksIntoOthers(StubBackend):
    """Right for one picture; in a batch the second is answered with the first one's boxes, moved."""

    def __call__(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        boxes, scores, labels = (np.repeat(each, len(pictures), axis=0) for each in super().__call__(pictures))
        boxes[1:] += 0.1
        return boxes, scores, labels


def test_numbers_that_are_none_fail_and_are_counted() -> None:
    record = compare(StubBackend(), _NotFinite(), CheckPictures("drawn", draw_pictures(2)), ParityLimits(ap_drop=1))
    assert record.not_finite == 3 and "3 of its detections" in str(record.failure())
    alone = compare(StubBackend(), _NotFinite(), CheckPictures("drawn", draw_pictures(1)), ParityLimits())
    assert alone.not_finite == 0 and alone.failure() is None


@pytest.mark.parametrize("batch", [None, 2, 3])
def test_a_file_that_mixes_up_a_batch_fails(batch: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_LeaksIntoOthers, "batch", batch)
    record = compare(StubBackend(), _LeaksIntoOthers(), CheckPictures("drawn", draw_pictures(3)), ParityLimits())
    assert record.pictures == 3 and record.matched_share < 0.7 and "match" in str(record.failure())
