"""`spd`: space-to-depth and a convolution without stride, SPD-Conv (arXiv:2208.03641)."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from detrofit.parts.layers import ConvNorm, PadToMultiple
from detrofit.parts.registry import part
from detrofit.parts.slots import BACKBONE_STEM, ENCODER_DOWNSAMPLE, STAGE_DOWNSAMPLE

Kernel = Annotated[Literal[1, 3], Field(description="of the convolution after space-to-depth")]


class SpaceToDepth(nn.Module):
    """[B,C,H,W] to [B,4C,H/2,W/2], H and W even: the four pixels of every 2x2 square, one behind the other.

    Blocks of C channels in the order (row, column) = (0,0), (1,0), (0,1), (1,1), which `nn.PixelUnshuffle` does not
    give.
    """

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[..., row::2, column::2] for column in (0, 1) for row in (0, 1)], dim=1)


class SPDStep(nn.Module):
    """Space-to-depth, then a convolution of stride 1 with norm: [B,Cin,H,W] to [B,Cout,H/2,W/2], H and W even."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, activation: str | None = None) -> None:
        super().__init__()
        self.space_to_depth = SpaceToDepth()
        self.conv = ConvNorm(4 * in_channels, out_channels, kernel, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.space_to_depth(x))


@part(
    "spd",
    fits=[STAGE_DOWNSAMPLE, ENCODER_DOWNSAMPLE, BACKBONE_STEM],
    paper="arXiv:2208.03641",
    licence="MIT original (SPD-Conv; its YOLOv5 folder is GPL-3.0)",
    can_widen=True,
    size_multiple=2,
)
class SPDConv(nn.Module):
    """SPD-Conv: space-to-depth, then a convolution of stride 1 with norm, so that downsampling discards no pixel.

    norm(conv(space_to_depth(x))), [B,Cin,H,W] to [B,Cout,ceil(H/2),ceil(W/2)]; odd sizes are padded. This is the
    order of the paper; with a 3x3 kernel it has four times the weights of the strided 3x3 that it replaces, with a 1x1
    four ninths of them. The host applies its activation. As a stem it does this twice, from 3 to C/2 to C channels
    and a quarter of the size, with ReLU after each.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 2, *, kernel: Kernel = 3) -> None:
        super().__init__()
        if stride == 2:
            self.step1: nn.Module = SPDStep(in_channels, out_channels, kernel)
            self.step2: nn.Module = nn.Identity()
        else:
            middle = max(1, out_channels // 2)
            self.step1 = SPDStep(in_channels, middle, kernel, "relu")
            self.step2 = PadToMultiple(SPDStep(middle, out_channels, kernel, "relu"), 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.step2(self.step1(x))
