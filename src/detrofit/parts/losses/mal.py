"""Matchability-aware loss."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from detrofit.parts.boxes import full_precision
from detrofit.parts.registry import part
from detrofit.parts.slots import LOSS_CLASS


@part("mal", fits=[LOSS_CLASS], paper="arXiv:2412.04234", licence="written from the equations")
class MatchabilityAwareLoss(nn.Module):
    """Varifocal loss that keeps its full weight on matches of low IoU.

    With p the score and q the IoU of the matched box: BCE(p, q^gamma) with weight 1 where `one_hot` is 1, and weight
    alpha p^gamma (target 0) elsewhere. No gradient flows through the weight or the IoU.

    `logits` and `one_hot` (0.0 or 1.0, the same shape) end in the classes; `iou` in 0..1 broadcasts against them (a
    query that is matched has its box's IoU, others anything). Returns the shape of `logits`, unreduced, at least
    float32.

    Args:
        alpha: weight of background.
        gamma: exponent of the IoU and of the background's score.
    """

    def __init__(
        self, *, alpha: Annotated[float, Field(ge=0)] = 1.0, gamma: Annotated[float, Field(ge=0)] = 1.5
    ) -> None:
        super().__init__()
        self.alpha, self.gamma = alpha, gamma

    def forward(self, logits: Tensor, one_hot: Tensor, iou: Tensor) -> Tensor:
        logits = full_precision(logits)
        with torch.no_grad():
            score = one_hot * iou.clamp(min=0).pow(self.gamma)
            weight = logits.sigmoid().pow_(self.gamma).mul_(self.alpha)
            weight = torch.where(one_hot > 0, 1.0, weight)
        return functional.binary_cross_entropy_with_logits(logits, score, weight, reduction="none")
