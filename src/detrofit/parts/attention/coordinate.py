"""`coordinate`: coordinate attention (arXiv:2103.02907)."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from detrofit.parts.layers import ConvNorm
from detrofit.parts.registry import part
from detrofit.parts.slots import STAGE_ATTENTION

_LEAST_HIDDEN = 8


@part("coordinate", fits=[STAGE_ATTENTION], paper="arXiv:2103.02907", licence="MIT original (CoordAttention)")
class CoordinateAttention(nn.Module):
    """Coordinate attention: a gate for every row and one for every column, so that channel attention knows places.

    x * sigmoid(rows(a)) * sigmoid(columns(b)), rows and columns being 1x1 convolutions to C channels. a and b are the
    means over each row [B,C,H] and over each column [B,C,W] after one 1x1 with norm and hard swish for both, to
    max(8, C // `reduction`) channels. [B,C,H,W] to the same.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        reduction: Annotated[int, Field(ge=1, le=64, description="the gates' hidden width is C divided by it")] = 32,
    ) -> None:
        super().__init__()
        hidden = max(_LEAST_HIDDEN, in_channels // reduction)
        self.shared = ConvNorm(in_channels, hidden, activation="hardswish")
        self.rows = nn.Conv2d(hidden, in_channels, 1)
        self.columns = nn.Conv2d(hidden, in_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        rows, columns = x.mean(dim=3, keepdim=True), x.mean(dim=2, keepdim=True).transpose(2, 3)
        rows, columns = self.shared(torch.cat([rows, columns], dim=2)).split([height, width], dim=2)
        return x * self.rows(rows).sigmoid() * self.columns(columns.transpose(2, 3)).sigmoid()
