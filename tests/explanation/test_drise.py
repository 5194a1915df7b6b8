from __future__ import annotations

import numpy as np
import pytest

from detrofit.errors import DetrofitError
from detrofit.explanation.drise import d_rise, draw_mask

SIGNAL = (slice(20, 28), slice(40, 50))  # what the constructed detector looks at, far from the box that it reports
BOX = np.array([[0.1, 0.6, 0.4, 0.9]])


def looks_at_the_signal(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One box of class 1, as sure as the signal is bright, and one of class 0 that nothing changes."""
    count = len(pictures)
    score = pictures[:, SIGNAL[0], SIGNAL[1]].mean((1, 2, 3)) / 255
    boxes = np.repeat(np.stack([BOX[0], [0.5, 0.5, 1, 1]])[None], count, 0)
    return boxes, np.stack([score, np.full(count, 0.5)], 1), np.tile([1, 0], (count, 1))


def test_it_points_at_the_signal_and_not_at_the_box():
    picture = np.full((64, 96, 3), 255, np.uint8)
    done: list[int] = []
    saliency = d_rise(looks_at_the_signal, picture, BOX, np.array([1]), masks=400, cells=8, advance=done.append)
    assert saliency.shape == (1, 64, 96) and saliency.min() == 0 and saliency.max() == 1 and sum(done) == 400
    y, x = np.unravel_index(saliency[0].argmax(), saliency[0].shape)
    assert 18 <= y <= 30 and 36 <= x <= 54
    inside, elsewhere = saliency[0][SIGNAL].mean(), np.median(saliency)
    assert inside > elsewhere + 0.3
    assert saliency[0, 40:58, 10:36].mean() < inside - 0.3, "the reported box is not where the signal is"


def test_another_class_or_place_gets_nothing_of_it():
    picture = np.full((64, 96, 3), 255, np.uint8)
    targets = np.concatenate([BOX, BOX, [[0.6, 0.1, 0.9, 0.3]]])
    saliency = d_rise(looks_at_the_signal, picture, targets, np.array([1, 0, 1]), masks=80, cells=8)
    assert saliency[0].max() == 1 and not saliency[1].any() and not saliency[2].any()


def test_the_same_seed_gives_the_same_map_whatever_the_batch():
    picture = np.full((64, 96, 3), 255, np.uint8)
    one, other = (d_rise(looks_at_the_signal, picture, BOX, np.array([1]), masks=20, batch=batch) for batch in (1, 7))
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_masks_hide_about_half_and_cover_every_size():
    generator = np.random.default_rng(0)
    masks = np.stack([draw_mask(generator, (37, 50), 8) for _ in range(200)])
    assert masks.shape == (200, 37, 50) and masks.min() >= 0 and masks.max() <= 1
    assert abs(masks.mean() - 0.5) < 0.03 and np.abs(masks.mean(0) - 0.5).max() < 0.2


def test_no_masks_are_refused():
    with pytest.raises(DetrofitError, match="0 masks show nothing"):
        d_rise(looks_at_the_signal, np.zeros((8, 8, 3), np.uint8), BOX, np.array([1]), masks=0)
