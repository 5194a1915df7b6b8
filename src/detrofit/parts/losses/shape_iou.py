"""Shape-IoU of boxes."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from detrofit.parts.boxes import enclosing_size, intersection_and_union, relative_difference, shape_weights, to_pixels
from detrofit.parts.registry import part
from detrofit.parts.slots import LOSS_BOX, MATCHER_BOX


@part(
    "shape-iou",
    fits=[LOSS_BOX, MATCHER_BOX],
    paper="arXiv:2312.17663",
    licence="written from the equations (original malagoutou/Shape-IoU without a licence)",
)
class ShapeIoULoss(nn.Module):
    """1 - IoU + a centre distance and a size difference, both weighted by the shape of the target.

    With the target's (primed) weights ww = 2 w'^s / (w'^s + h'^s) and hh = 2 h'^s / (w'^s + h'^s):
    distance = (hh dx^2 + ww dy^2) / (squared diagonal of the smallest enclosing box);
    shape = (1 - exp(-hh |w - w'| / max(w, w')))^4 + (1 - exp(-ww |h - h'| / max(h, h')))^4;
    loss = 1 - IoU + distance + shape / 2.

    Boxes are cxcywh in 0..1 with broadcastable leading dimensions, compared in pixels of `image_size` (height,
    width); the loss has those dimensions and lies in 0..4. 0 for equal boxes; not symmetric unless `scale` is 0.

    Args:
        scale: exponent s, which relates to the size of the data set's objects; 0 makes both weights 1.
        eps: added to the union in square pixels and to the squared diagonal.
    """

    def __init__(
        self, *, scale: Annotated[float, Field(ge=0, le=10)] = 0.0, eps: Annotated[float, Field(gt=0, le=1)] = 1e-7
    ) -> None:
        super().__init__()
        self.scale, self.eps = scale, eps
        self.symmetric = scale == 0

    def forward(self, predicted: Tensor, target: Tensor, image_size: tuple[float, float]) -> Tensor:
        predicted, target = to_pixels(predicted, image_size), to_pixels(target, image_size)
        intersection, union = intersection_and_union(predicted, target)
        weight_w, weight_h = shape_weights(target, self.scale)
        distance = self._distance(predicted, target, weight_w, weight_h)
        width = -torch.expm1(-weight_h * relative_difference(predicted[..., 2], target[..., 2]))
        height = -torch.expm1(-weight_w * relative_difference(predicted[..., 3], target[..., 3]))
        return 1 - intersection / (union + self.eps) + distance + (width**4 + height**4) / 2

    def _distance(self, predicted: Tensor, target: Tensor, weight_w: Tensor, weight_h: Tensor) -> Tensor:
        offset = (predicted[..., :2] - target[..., :2]).square()
        width, height = enclosing_size(predicted, target)
        weighted = weight_h * offset[..., 0] + weight_w * offset[..., 1]
        return weighted / (width.square() + height.square() + self.eps)
