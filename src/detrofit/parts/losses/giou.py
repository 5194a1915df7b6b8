"""Generalised IoU of boxes, the stock box loss and matching cost."""

from __future__ import annotations

from torch import Tensor, nn

from detrofit.parts.boxes import generalized_iou
from detrofit.parts.registry import part
from detrofit.parts.slots import LOSS_BOX, MATCHER_BOX


@part("giou", fits=[LOSS_BOX, MATCHER_BOX], paper="arXiv:1902.09630", licence="written from the equations")
class GeneralizedIoULoss(nn.Module):
    """1 - IoU + the share of the smallest enclosing box that neither box covers.

    Boxes are cxcywh in 0..1 with broadcastable leading dimensions; the loss has those dimensions and lies in 0..2.
    Symmetric, 0 for equal boxes, unchanged when either axis is rescaled (so `image_size` plays no role).
    """

    symmetric = True

    def forward(self, predicted: Tensor, target: Tensor, image_size: tuple[float, float]) -> Tensor:
        return 1 - generalized_iou(predicted, target)
