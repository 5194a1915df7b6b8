"""Varifocal loss, the stock class loss."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from detrofit.parts.boxes import full_precision
from detrofit.parts.registry import part
from detrofit.parts.slots import LOSS_CLASS


@part("vfl", fits=[LOSS_CLASS], paper="arXiv:2008.13367", licence="written from the equations")
class VarifocalLoss(nn.Module):
    """Cross entropy of the score against the IoU of the matched box, with confident background weighted up.

    With p the score and q the IoU: BCE(p, q) weighted by q where `one_hot` is 1, and by alpha p^gamma (target 0)
    elsewhere. No gradient flows through the weight or the IoU.

    `logits` and `one_hot` (0.0 or 1.0, the same shape) end in the classes; `iou` in 0..1 broadcasts against them (a
    query that is matched has its box's IoU, others anything). Returns the shape of `logits`, unreduced, at least
    float32.

    Args:
        alpha: weight of background.
        gamma: how strongly background concentrates on confident mistakes.
    """

    def __init__(
        self, *, alpha: Annotated[float, Field(ge=0)] = 0.75, gamma: Annotated[float, Field(ge=0)] = 2.0
    ) -> None:
        super().__init__()
        self.alpha, self.gamma = alpha, gamma

    def forward(self, logits: Tensor, one_hot: Tensor, iou: Tensor) -> Tensor:
        logits = full_precision(logits)
        with torch.no_grad():
            score = one_hot * iou
            weight = logits.sigmoid().pow_(self.gamma).mul_(self.alpha).lerp_(score, one_hot)
        return functional.binary_cross_entropy_with_logits(logits, score, weight, reduction="none")
