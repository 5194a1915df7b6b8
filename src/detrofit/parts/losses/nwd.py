"""Normalised Gaussian Wasserstein distance of boxes."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from detrofit.parts.boxes import squared_wasserstein, to_pixels
from detrofit.parts.registry import part
from detrofit.parts.slots import LOSS_BOX, MATCHER_BOX


@part(
    "nwd",
    fits=[LOSS_BOX, MATCHER_BOX],
    paper="arXiv:2110.13389",
    licence="written from the equations (original jwwangchn/NWD is Apache-2.0)",
)
class NormalizedWassersteinDistance(nn.Module):
    """Wasserstein distance of the boxes seen as Gaussians, made for tiny objects.

    W^2 = dx^2 + dy^2 + ((w - w')^2 + (h - h')^2) / 4 + eps in square pixels; loss by `mode`:
    exp 1 - exp(-W / constant) (0..1), sqrt W, log ln(W^2 + 1), norm_sqrt 1 - 1 / (gamma + W), w2 W^2.

    Boxes are cxcywh in 0..1 with broadcastable leading dimensions, scaled to pixels of `image_size` (height, width);
    the loss has those dimensions. Symmetric, 0 (up to `eps`) for equal boxes with mode exp.

    This is the original's loss, in pixels. The plug-in that circulates for RT-DETR sets the constant of 12.8 pixels
    beside boxes in 0..1, which leaves it almost flat, and halves widths and heights twice.

    Args:
        mode: how the distance becomes a loss.
        constant: size in pixels that normalises the distance, about the mean absolute size of the objects at the
            network's input; the default is that of the AI-TOD data set.
        gamma: offset of mode norm_sqrt.
        eps: added to the squared distance in square pixels, so that equal boxes have a finite gradient.
    """

    symmetric = True

    def __init__(
        self,
        *,
        mode: Literal["exp", "sqrt", "log", "norm_sqrt", "w2"] = "exp",
        constant: Annotated[float, Field(gt=0)] = 12.8,
        gamma: Annotated[float, Field(gt=0)] = 1.0,
        eps: Annotated[float, Field(gt=0, le=1)] = 1e-7,
    ) -> None:
        super().__init__()
        self.mode, self.constant, self.gamma, self.eps = mode, constant, gamma, eps
        self.least = 1 - 1 / gamma if mode == "norm_sqrt" else 0.0

    def forward(self, predicted: Tensor, target: Tensor, image_size: tuple[float, float]) -> Tensor:
        predicted, target = to_pixels(predicted, image_size), to_pixels(target, image_size)
        squared = squared_wasserstein(predicted, target) + self.eps
        if self.mode == "w2":
            return squared
        if self.mode == "log":
            return torch.log1p(squared)
        distance = squared.sqrt()
        if self.mode == "sqrt":
            return distance
        if self.mode == "norm_sqrt":
            return 1 - 1 / (self.gamma + distance)
        return -torch.expm1(-distance / self.constant)
