"""Sigmoid focal loss."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from detrofit.parts.boxes import full_precision
from detrofit.parts.registry import part
from detrofit.parts.slots import LOSS_CLASS


@part("focal", fits=[LOSS_CLASS], paper="arXiv:1708.02002", licence="written from the equations")
class FocalLoss(nn.Module):
    """Cross entropy of the score against the class, with what is already right weighted down.

    With p_t the score of the truth: -alpha_t (1 - p_t)^gamma ln(p_t), alpha_t = alpha where `one_hot` is 1 and
    1 - alpha elsewhere. `gamma` 0 with `alpha` null is plain binary cross entropy.

    `logits` and `one_hot` (0.0 or 1.0, the same shape) end in the classes; `iou` plays no role. Returns the shape of
    `logits`, unreduced, at least float32.

    Args:
        alpha: weight of objects against background; null weighs both 1.
        gamma: how strongly the loss concentrates on mistakes.
    """

    def __init__(
        self,
        *,
        alpha: Annotated[float, Field(ge=0, le=1)] | None = 0.25,
        gamma: Annotated[float, Field(ge=0)] = 2.0,
    ) -> None:
        super().__init__()
        self.alpha, self.gamma = alpha, gamma

    def forward(self, logits: Tensor, one_hot: Tensor, iou: Tensor) -> Tensor:
        # In log space the gradient stays finite where 1 - p_t underflows, whatever gamma is.
        of_truth = full_precision(logits) * (2 * one_hot - 1)
        loss = -functional.logsigmoid(of_truth) * (self.gamma * functional.logsigmoid(-of_truth)).exp()
        if self.alpha is None:
            return loss
        return loss * (self.alpha * one_hot + (1 - self.alpha) * (1 - one_hot))
