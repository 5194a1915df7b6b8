"""Complete-IoU of boxes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from detrofit.parts.boxes import box_iou, centre_distance_ratio, to_pixels
from detrofit.parts.registry import part
from detrofit.parts.slots import LOSS_BOX, MATCHER_BOX


@part("ciou", fits=[LOSS_BOX, MATCHER_BOX], paper="arXiv:1911.08287", licence="written from the equations")
class CompleteIoULoss(nn.Module):
    """Distance-IoU loss plus a penalty on the difference of aspect ratios.

    loss = 1 - IoU + d^2 / c^2 + a v, with v = 4 / pi^2 (atan(w'/h') - atan(w/h))^2 and the trade-off
    a = v / (1 - IoU + v), through which no gradient flows. d is the distance of the centres, c the diagonal of the
    smallest enclosing box.

    Boxes are cxcywh in 0..1 with broadcastable leading dimensions, compared in pixels of `image_size` (height,
    width); the loss has those dimensions and lies in 0..3. Symmetric, 0 for equal boxes.
    """

    symmetric = True

    def forward(self, predicted: Tensor, target: Tensor, image_size: tuple[float, float]) -> Tensor:
        predicted, target = to_pixels(predicted, image_size), to_pixels(target, image_size)
        iou = box_iou(predicted, target)
        difference = _aspect_angle(target) - _aspect_angle(predicted)
        penalty = 4 / math.pi**2 * difference.square()
        with torch.no_grad():
            trade_off = penalty / (1 - iou + penalty).clamp(min=1e-7)
        return 1 - iou + centre_distance_ratio(predicted, target) + trade_off * penalty


def _aspect_angle(boxes: Tensor) -> Tensor:
    return torch.atan2(boxes[..., 2], boxes[..., 3])
