"""`efficient-multi-scale`: the efficient multi-scale attention module, EMA (arXiv:2305.13563)."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from detrofit.parts.registry import part
from detrofit.parts.slots import STAGE_ATTENTION


@part(
    "efficient-multi-scale",
    fits=[STAGE_ATTENTION],
    paper="arXiv:2305.13563",
    licence="original code (EMA-attention-module) without a licence file; written from the paper",
    channel_multiple=lambda options: options["groups"],
)
class EfficientMultiScaleAttention(nn.Module):
    """Efficient multi-scale attention (EMA in its paper): groups of channels gate their places by two branches.

    In each group z of C / `groups` channels: a = norm(z * sigmoid(rows) * sigmoid(columns)), both from one 1x1 of the
    means over columns and rows; b = conv3x3(z). The gate of a place is sigmoid(softmax(mean(a)) . b +
    softmax(mean(b)) . a), softmax and product over the channels of the group, and multiplies z. [B,C,H,W] to the same;
    C must be a multiple of `groups`. All groups share the weights; norm is a group norm of one channel a group. The
    original classifiers have 32 groups, its detectors' narrower maps 8.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        groups: Annotated[int, Field(ge=1, le=64, description="groups that the channels are split into")] = 8,
    ) -> None:
        super().__init__()
        self.groups = groups
        channels = in_channels // groups
        self.pointwise = nn.Conv2d(channels, channels, 1)
        self.norm = nn.GroupNorm(channels, channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        z = x.reshape(-1, x.shape[1] // self.groups, *x.shape[-2:])
        gated, convolved = self._gated(z), self.conv(z)
        gate = (_channel_shares(gated) * convolved + _channel_shares(convolved) * gated).sum(dim=1, keepdim=True)
        return (z * gate.sigmoid()).reshape(x.shape)

    def _gated(self, z: Tensor) -> Tensor:
        height, width = z.shape[-2:]
        rows, columns = z.mean(dim=3, keepdim=True), z.mean(dim=2, keepdim=True).transpose(2, 3)
        rows, columns = self.pointwise(torch.cat([rows, columns], dim=2)).split([height, width], dim=2)
        return self.norm(z * rows.sigmoid() * columns.transpose(2, 3).sigmoid())


def _channel_shares(z: Tensor) -> Tensor:
    return z.mean(dim=(2, 3), keepdim=True).softmax(dim=1)
