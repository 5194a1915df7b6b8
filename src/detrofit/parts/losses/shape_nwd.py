"""Shape-NWD of boxes: the two different losses that carry the name."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from detrofit.parts.boxes import shape_weights, squared_wasserstein, to_pixels
from detrofit.parts.losses.nwd import NormalizedWassersteinDistance
from detrofit.parts.losses.shape_iou import ShapeIoULoss
from detrofit.parts.registry import part
from detrofit.parts.slots import LOSS_BOX, MATCHER_BOX


@part("shape-nwd", fits=[LOSS_BOX, MATCHER_BOX], paper="arXiv:2312.17663", licence="written from the equations")
class ShapeWassersteinDistance(nn.Module):
    """Shape-IoU's idea on the Wasserstein distance, in one of the two forms that circulate.

    Form paper (the paper's section on small objects): loss = 1 - exp(-D / constant) with
    D^2 = hh dx^2 + ww dy^2 + ((w - w')^2 + (h - h')^2) / 4 and Shape-IoU's weights ww, hh of the target; with `scale`
    0 it is `nwd`. Form mix (RT-DETR plug-ins): ratio * (Shape-IoU loss) + (1 - ratio) * (NWD loss).

    Boxes are cxcywh in 0..1 with broadcastable leading dimensions, scaled to pixels of `image_size` (height, width);
    the loss has those dimensions and lies in 0..1 (paper) or 0..4 (mix). 0 (up to 1e-4) for equal boxes; not
    symmetric unless `scale` is 0.

    Args:
        form: which of the two.
        scale: exponent of Shape-IoU's weights; 0 makes both weights 1.
        constant: size in pixels that normalises the distance, as in `nwd`.
        ratio: share of the Shape-IoU loss in form mix.
    """

    def __init__(
        self,
        *,
        form: Literal["paper", "mix"] = "paper",
        scale: Annotated[float, Field(ge=0, le=10)] = 0.0,
        constant: Annotated[float, Field(gt=0)] = 12.8,
        ratio: Annotated[float, Field(ge=0, le=1)] = 0.5,
    ) -> None:
        super().__init__()
        self.form, self.scale, self.constant, self.ratio = form, scale, constant, ratio
        self.symmetric = scale == 0
        self.shape_iou = ShapeIoULoss(scale=scale)
        self.nwd = NormalizedWassersteinDistance(constant=constant)

    def forward(self, predicted: Tensor, target: Tensor, image_size: tuple[float, float]) -> Tensor:
        if self.form == "mix":
            shape_iou = self.shape_iou(predicted, target, image_size)
            return self.ratio * shape_iou + (1 - self.ratio) * self.nwd(predicted, target, image_size)
        predicted, target = to_pixels(predicted, image_size), to_pixels(target, image_size)
        weights = shape_weights(target, self.scale)
        distance = (squared_wasserstein(predicted, target, *weights) + self.nwd.eps).sqrt()
        return -torch.expm1(-distance / self.constant)
