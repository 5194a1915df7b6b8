"""`cbam`: the convolutional block attention module (arXiv:1807.06521)."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from detrofit.parts.registry import part
from detrofit.parts.slots import STAGE_ATTENTION


@part("cbam", fits=[STAGE_ATTENTION], paper="arXiv:1807.06521", licence="MIT original (attention-module)")
class ConvolutionalBlockAttention(nn.Module):
    """CBAM: a gate a channel, then a gate a place, each computed from means and maxima.

    y = x * sigmoid(mlp(mean(x)) + mlp(max(x))) over the map, mlp through C // `reduction` with ReLU; then
    y * sigmoid(conv([mean(y), max(y)])) over channels, one biased `kernel` x `kernel` convolution. [B,C,H,W] to the
    same. As in the paper the last convolution has no norm (the original code adds one).
    """

    def __init__(
        self,
        in_channels: int,
        *,
        reduction: Annotated[int, Field(ge=1, le=64, description="the mlp's hidden width is C divided by it")] = 16,
        kernel: Annotated[Literal[3, 5, 7], Field(description="of the convolution that gates places")] = 7,
    ) -> None:
        super().__init__()
        hidden = max(1, in_channels // reduction)
        self.squeeze = nn.Conv2d(in_channels, hidden, 1)
        self.excite = nn.Conv2d(hidden, in_channels, 1)
        self.spatial = nn.Conv2d(2, 1, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x * (self._mlp(x.mean(dim=(2, 3), keepdim=True)) + self._mlp(x.amax(dim=(2, 3), keepdim=True))).sigmoid()
        places = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return x * self.spatial(places).sigmoid()

    def _mlp(self, channels: Tensor) -> Tensor:
        return self.excite(functional.relu(self.squeeze(channels)))
