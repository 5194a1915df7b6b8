"""`lae`: lightweight adaptive extraction of LSM-YOLO (arXiv:2408.14087)."""

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from detrofit.parts.layers import ConvNorm
from detrofit.parts.registry import part
from detrofit.parts.slots import ENCODER_DOWNSAMPLE, STAGE_DOWNSAMPLE

_SLOTS = 4
GroupChannels = Annotated[
    Literal[1, 2, 4, 8, 16, 32], Field(description="input channels in a group of the strided convolution")
]


@part(
    "lae",
    fits=[STAGE_DOWNSAMPLE, ENCODER_DOWNSAMPLE],
    paper="arXiv:2408.14087",
    licence="AGPL-3.0 base and no licence file in the original code (LSM-YOLO); written from the definition",
    size_multiple=2,
    channel_multiple=lambda options: options["group_channels"],
)
class LightweightAdaptiveExtraction(nn.Module):
    """LSM-YOLO's downsampling: four strided feature maps, mixed with weights that a softmax over four places gives.

    y = sum over s of softmax(a)_s x f_s, [B,C,H,W] to [B,C,H/2,W/2], H and W even. f is a strided 3x3 convolution from
    C to 4C in groups of `group_channels` input channels, with norm and SiLU. a is a 1x1 convolution with norm and SiLU
    of the 3x3 average, rearranged as in the original code: s numbers the quadrants of the map, so the four weights at
    a place come from places half a map apart, not from its 2x2 square. C must be a multiple of `group_channels`.
    """

    def __init__(self, in_channels: int, *, group_channels: GroupChannels = 16) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(3, 1, padding=1)
        self.attention = ConvNorm(in_channels, in_channels, activation="silu")
        self.features = ConvNorm(
            in_channels, _SLOTS * in_channels, 3, 2, groups=in_channels // group_channels, activation="silu"
        )

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2] // 2, x.shape[-1] // 2
        weights = self.attention(self.pool(x)).unflatten(3, (2, width)).unflatten(2, (2, height))
        weights = weights.permute(0, 2, 4, 1, 3, 5).flatten(1, 2).softmax(dim=1)
        return (weights * self.features(x).unflatten(1, (_SLOTS, -1))).sum(dim=1)
