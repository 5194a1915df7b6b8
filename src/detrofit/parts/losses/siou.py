"""SIoU of boxes."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from detrofit.parts.boxes import box_iou, enclosing_size, relative_difference, to_pixels
from detrofit.parts.registry import part
from detrofit.parts.slots import LOSS_BOX, MATCHER_BOX


@part("siou", fits=[LOSS_BOX, MATCHER_BOX], paper="arXiv:2205.12740", licence="written from the equations")
class ScyllaIoULoss(nn.Module):
    """1 - IoU + half of a distance cost, which the angle between the centres steers, and of a shape cost.

    angle = sin(2 alpha), alpha the angle of the line between the centres;
    distance = sum over x, y of 1 - exp(-(2 - angle) (d / c)^2), d the centres' offset, c the side of the smallest
    enclosing box; shape = sum over w, h of (1 - exp(-|w - w'| / max(w, w')))^theta.

    Boxes are cxcywh in 0..1 with broadcastable leading dimensions, compared in pixels of `image_size` (height,
    width); the loss has those dimensions and lies in 0..3. Symmetric, 0 for equal boxes.

    Args:
        theta: how strongly the shape cost concentrates on large differences (the paper searches 2 to 6).
    """

    symmetric = True

    def __init__(self, *, theta: Annotated[float, Field(ge=1, le=10)] = 4.0) -> None:
        super().__init__()
        self.theta = theta

    def forward(self, predicted: Tensor, target: Tensor, image_size: tuple[float, float]) -> Tensor:
        predicted, target = to_pixels(predicted, image_size), to_pixels(target, image_size)
        return 1 - box_iou(predicted, target) + (_distance(predicted, target) + self._shape(predicted, target)) / 2

    def _shape(self, predicted: Tensor, target: Tensor) -> Tensor:
        width = -torch.expm1(-relative_difference(predicted[..., 2], target[..., 2]))
        height = -torch.expm1(-relative_difference(predicted[..., 3], target[..., 3]))
        return width**self.theta + height**self.theta


def _distance(predicted: Tensor, target: Tensor) -> Tensor:
    offset_x, offset_y = predicted[..., 0] - target[..., 0], predicted[..., 1] - target[..., 1]
    squared_distance = (offset_x.square() + offset_y.square()).clamp(min=1e-12)
    angle = 2 * offset_x.abs() * offset_y.abs() / squared_distance
    width, height = enclosing_size(predicted, target)
    share_x = (offset_x / width.clamp(min=1e-6)).square()
    share_y = (offset_y / height.clamp(min=1e-6)).square()
    return -torch.expm1(-(2 - angle) * share_x) - torch.expm1(-(2 - angle) * share_y)
