from __future__ import annotations

import pytest
import torch

from detrofit.distillation.imitation import box_weights, imitation_error


def test_it_is_the_share_of_variance_that_is_not_explained():
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(8, 5, 6, 6, generator=generator) * torch.tensor([0.001, 1, 2, 4, 8]).view(1, 5, 1, 1)
    mean = target.mean((0, 2, 3), keepdim=True).expand_as(target)
    assert imitation_error(target, target) == 0
    # Wide channels count as much as narrow ones, but for the floor under a nearly constant one.
    assert imitation_error(mean[:, 1:], target[:, 1:]) == pytest.approx(0.93, abs=0.02)
    assert imitation_error(mean[:, :1], target[:, :1]) > 0.98
    assert imitation_error(torch.cat([mean[:, :1], target[:, 1:]], 1), target) < 1e-3
    half = target + 0.5 * (mean - target)
    assert imitation_error(half, target) == pytest.approx(float(imitation_error(mean, target)) / 4, rel=1e-4)


def test_lists_are_averaged_and_a_constant_channel_is_finite():
    one, two = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 2, 2)
    both = imitation_error([one * 0, two], [one, two])
    assert both == pytest.approx(float(imitation_error(one * 0, one)) / 2)
    assert torch.isfinite(imitation_error(torch.ones(1, 2, 3, 3), torch.zeros(1, 2, 3, 3)))


def test_places_inside_boxes_count_more():
    targets = [{"boxes": torch.tensor([[0.25, 0.25, 0.5, 0.5]])}, {"boxes": torch.zeros(0, 4)}]
    weights = box_weights(targets, (8, 8), inside=3.0)
    assert weights.mean() == pytest.approx(1.0)
    assert weights[0, 0, 0, 0] == pytest.approx(3 * float(weights[0, 0, 7, 7]))
    assert weights[0, 0, 3, 3] == weights[0, 0, 0, 0] and weights[0, 0, 4, 4] == weights[0, 0, 7, 7]
    target = torch.randn(2, 3, 8, 8)
    wrong_inside, wrong_outside = target.clone(), target.clone()
    wrong_inside[0, :, :2, :2] += 1
    wrong_outside[0, :, 6:, 6:] += 1
    assert imitation_error(wrong_inside, target, weights) > 2 * imitation_error(wrong_outside, target, weights)
