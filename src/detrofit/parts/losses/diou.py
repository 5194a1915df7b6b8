"""Distance-IoU of boxes."""

from __future__ import annotations

from torch import Tensor, nn

from detrofit.parts.boxes import box_iou, centre_distance_ratio, to_pixels
from detrofit.parts.registry import part
from detrofit.parts.slots import LOSS_BOX, MATCHER_BOX


@part("diou", fits=[LOSS_BOX, MATCHER_BOX], paper="arXiv:1911.08287", licence="written from the equations")
class DistanceIoULoss(nn.Module):
    """1 - IoU + squared centre distance over the squared diagonal of the smallest enclosing box.

    Boxes are cxcywh in 0..1 with broadcastable leading dimensions, compared in pixels of `image_size` (height,
    width); the loss has those dimensions and lies in 0..2. Symmetric, 0 for equal boxes.
    """

    symmetric = True

    def forward(self, predicted: Tensor, target: Tensor, image_size: tuple[float, float]) -> Tensor:
        predicted, target = to_pixels(predicted, image_size), to_pixels(target, image_size)
        return 1 - box_iou(predicted, target) + centre_distance_ratio(predicted, target)
