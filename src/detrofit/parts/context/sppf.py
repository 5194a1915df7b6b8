"""`sppf`: fast spatial pyramid pooling (arXiv:1406.4729, in YOLOv5's chained form)."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from detrofit.parts.layers import ConvNorm
from detrofit.parts.registry import part
from detrofit.parts.slots import ENCODER_CONTEXT

Kernel = Annotated[Literal[3, 5, 7, 9], Field(description="window of each max-pool")]


@part(
    "sppf",
    fits=[ENCODER_CONTEXT],
    paper="arXiv:1406.4729",
    licence="chained form from YOLOv5 (AGPL-3.0); written from the definition",
    channel_multiple=2,
)
class SPPF(nn.Module):
    """Spatial pyramid pooling in its fast form: three max-pools in a row see three growing windows of the map.

    conv1x1 to C/2; p1 = pool(y), p2 = pool(p1), p3 = pool(p2); conv1x1 of cat(y, p1, p2, p3) to C, both with norm and
    SiLU. With kernel 5 the windows are 5, 9 and 13 wide. [B,C,H,W] to the same; C must be even.
    """

    def __init__(self, in_channels: int, *, kernel: Kernel = 5) -> None:
        super().__init__()
        hidden = in_channels // 2
        self.reduce = ConvNorm(in_channels, hidden, activation="silu")
        self.pool = nn.MaxPool2d(kernel, 1, padding=kernel // 2)
        self.expand = ConvNorm(4 * hidden, in_channels, activation="silu")

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.reduce(x)]
        for _ in range(3):
            maps.append(self.pool(maps[-1]))
        return self.expand(torch.cat(maps, dim=1))
