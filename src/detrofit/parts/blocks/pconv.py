"""`pconv`: partial convolution (arXiv:2303.03667)."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from detrofit.parts.registry import part
from detrofit.parts.slots import STAGE_CONV

Divisor = Annotated[int, Field(ge=1, le=16, description="one channel in so many is convolved, the rest pass")]


@part(
    "pconv",
    fits=[STAGE_CONV],
    paper="arXiv:2303.03667",
    licence="original code (FasterNet) without a licence file; written from the paper",
)
class PartialConv(nn.Module):
    """FasterNet's partial convolution: a 3x3 convolution on the first channels only, the others pass unchanged.

    With c = C // `divisor`: cat(conv3x3(x[:c]), x[c:]), [B,C,H,W] to the same. As in the paper it has no bias, norm or
    activation of its own. With divisor 4 it has 1/16 of the weights of a full 3x3 convolution. It mixes no channels
    between the two groups, which FasterNet leaves to the 1x1 convolutions that follow.
    """

    def __init__(self, in_channels: int, *, divisor: Divisor = 4) -> None:
        super().__init__()
        self.convolved = max(1, in_channels // divisor)
        self.conv = nn.Conv2d(self.convolved, self.convolved, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.conv(x[:, : self.convolved]), x[:, self.convolved :]], dim=1)
