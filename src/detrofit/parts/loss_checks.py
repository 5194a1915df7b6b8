"""What every loss promises, on fixed boxes and logits."""

from __future__ import annotations

import torch
from torch import Tensor

from detrofit.parts.check import require
from detrofit.parts.slots import LOSS_BOX, MATCHER_BOX, Slot
from detrofit.parts.trials import Place

_IMAGE_SIZE = (480.0, 640.0)
_ZERO_TOLERANCE = 1e-3

_BOXES = torch.tensor(
    [[0.5, 0.5, 0.2, 0.2], [0.3, 0.6, 0.4, 0.1], [0.52, 0.48, 0.25, 0.2], [0.9, 0.1, 0.05, 0.15], [0.4, 0.5, 0.1, 0.3]]
)
_DEGENERATE = torch.tensor(
    [
        [0.5, 0.5, 0.0, 0.0],  # a point
        [0.5, 0.5, 0.2, 0.0],  # a line
        [0.7, 0.5, 0.2, 0.2],  # touches the fourth
        [0.5, 0.5, 0.2, 0.2],
        [0.0, 0.0, 1e-6, 1e-6],  # tiny, far from all others
        [1.0, 1.0, 2.0, 2.0],  # beyond the picture
    ]
)


def broadcasts_over_all_pairs(place: Place) -> None:
    """Loss of all pairs at once equals the loss of each."""
    loss = place.build()
    table = loss(_BOXES[:, None], _BOXES[None], _IMAGE_SIZE)
    require(table.shape == (len(_BOXES),) * 2, f"of 5 by 5 boxes it gives {tuple(table.shape)}, not (5, 5)")
    single = torch.stack([torch.stack([loss(a, b, _IMAGE_SIZE) for b in _BOXES]) for a in _BOXES])
    require(torch.allclose(table, single, atol=1e-5), "all pairs at once differ from one pair at a time")


def is_least_for_equal_boxes(place: Place) -> None:
    """No other box costs less than the target itself."""
    table = place.build()(_BOXES[:, None], _BOXES[None], _IMAGE_SIZE)
    require(bool((table.diagonal() <= table.min(dim=0).values + 1e-5).all()), "another box costs less than the target")


def is_zero_for_equal_boxes(place: Place) -> None:
    """A box that equals its target costs nothing, or what the loss states as its `least`."""
    loss = place.build()
    equal, least = loss(_BOXES, _BOXES, _IMAGE_SIZE), getattr(loss, "least", 0.0)
    require(
        bool(((equal - least).abs() < _ZERO_TOLERANCE).all()),
        f"equal boxes cost {equal[0].item():.3g}, not {least:.3g}; a loss with another minimum states it as `least`",
    )


def is_symmetric_as_stated(place: Place) -> None:
    """Where the loss says whether it is `symmetric`, exchanging both boxes does accordingly."""
    loss = place.build()
    stated = getattr(loss, "symmetric", None)
    table = loss(_BOXES[:, None], _BOXES[None], _IMAGE_SIZE)
    if stated is not None:
        same = torch.allclose(table, table.T, rtol=1e-4, atol=1e-5)
        require(same == stated, f"it states symmetric = {stated}, and exchanging both boxes says otherwise")


def is_finite_for_odd_boxes(place: Place) -> None:
    """Touching, distant, tiny and degenerate boxes have finite losses and gradients."""
    predicted = _DEGENERATE.clone().requires_grad_()
    table = place.build()(predicted[:, None], _DEGENERATE[None], _IMAGE_SIZE)
    require(bool(table.isfinite().all()), f"its value is not finite {_first_bad(table)}")
    (gradient,) = torch.autograd.grad(table.sum(), predicted)
    require(bool(gradient.isfinite().all()), f"its gradient is not finite {_first_bad(gradient)}")


def _first_bad(table: Tensor) -> str:
    rows = (~table.isfinite()).any(dim=1).nonzero().flatten().tolist()
    return f"for predicted boxes {_DEGENERATE[rows].tolist()}"


def pulls_scores_to_the_truth(place: Place) -> None:
    """The loss has the shape of the logits, stays finite, and falls as the right class's logit rises."""
    levels = torch.tensor([-1e4, -30.0, -2.0, 0.0, 2.0, 30.0, 1e4])
    logits = levels[:, None].repeat(1, 3).requires_grad_()
    one_hot = torch.tensor([1.0, 0.0, 0.0]).expand(7, 3)
    loss = place.build()(logits, one_hot, torch.full((7,), 0.9)[:, None] * one_hot)
    require(loss.shape == logits.shape, f"of logits {tuple(logits.shape)} it gives {tuple(loss.shape)}")
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    require(bool(loss.isfinite().all() and gradient.isfinite().all()), "not finite for large logits")
    require(bool(gradient[3, 0] < 0 < gradient[3, 1]), "its gradient does not raise the right class and lower others")


def is_box_loss(slot: Slot) -> bool:
    """Whether parts of this slot compare boxes."""
    return slot in (LOSS_BOX, MATCHER_BOX)
