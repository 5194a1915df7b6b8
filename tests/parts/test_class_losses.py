"""Class losses against their definitions, written out for single scores."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torchvision.ops import sigmoid_focal_loss

from detrofit.parts.losses.focal import FocalLoss
from detrofit.parts.losses.mal import MatchabilityAwareLoss
from detrofit.parts.losses.vfl import VarifocalLoss

SCORE, IOU = 0.3, 0.6
LOGITS = torch.tensor([[math.log(SCORE / (1 - SCORE))] * 2])
ONE_HOT = torch.tensor([[1.0, 0.0]])


def cross_entropy(target: float) -> float:
    return -target * math.log(SCORE) - (1 - target) * math.log(1 - SCORE)


def test_varifocal() -> None:
    loss = VarifocalLoss()(LOGITS, ONE_HOT, torch.tensor([[IOU]]))
    assert loss.tolist()[0] == pytest.approx([IOU * cross_entropy(IOU), 0.75 * SCORE**2 * cross_entropy(0)], rel=1e-5)


def test_matchability_aware() -> None:
    loss = MatchabilityAwareLoss()(LOGITS, ONE_HOT, torch.tensor([[IOU]]))
    assert loss.tolist()[0] == pytest.approx([cross_entropy(IOU**1.5), SCORE**1.5 * cross_entropy(0)], rel=1e-5)


@pytest.mark.parametrize("alpha", [0.25, None])
def test_focal_equals_torchvision(alpha: float | None) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(30, 5, generator=generator)
    one_hot = (torch.rand(30, 5, generator=generator) > 0.7).float()
    expected = sigmoid_focal_loss(logits, one_hot, -1 if alpha is None else alpha, 1.5)
    torch.testing.assert_close(FocalLoss(alpha=alpha, gamma=1.5)(logits, one_hot, torch.zeros(30, 1)), expected)


def test_focal_without_focus_is_cross_entropy() -> None:
    loss = FocalLoss(alpha=None, gamma=0.0)(LOGITS, ONE_HOT, torch.zeros(1, 1))
    assert loss.tolist()[0] == pytest.approx([cross_entropy(1), cross_entropy(0)], rel=1e-5)


@pytest.mark.parametrize("loss", [VarifocalLoss(), MatchabilityAwareLoss(), FocalLoss(gamma=0.5)])
def test_finite_for_extreme_logits_and_full_precision(loss: nn.Module) -> None:
    logits = torch.tensor([[-500.0, 0.0, 500.0], [500.0, -500.0, 1e4]], requires_grad=True)
    one_hot = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    loss(logits, one_hot, torch.tensor([[0.0], [1.0]])).sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all()
    assert loss(logits.bfloat16(), one_hot, torch.zeros(2, 1)).dtype == torch.float32


@pytest.mark.parametrize("loss", [VarifocalLoss(), MatchabilityAwareLoss(), FocalLoss()])
def test_several_leading_dimensions_and_no_queries(loss: nn.Module) -> None:
    assert loss(torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 4, 1)).shape == (2, 3, 4, 5)
    assert loss(torch.zeros(2, 0, 5), torch.zeros(2, 0, 5), torch.zeros(2, 0, 1)).shape == (2, 0, 5)
