"""`hgnetv2`: the second stock backbone of RT-DETR (arXiv:2304.08069; PaddleClas' PP-HGNetV2)."""

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from detrofit.parts.assembly import SlotFiller
from detrofit.parts.layers import ConvNorm
from detrofit.parts.registry import part
from detrofit.parts.slots import BACKBONE, STAGE_ATTENTION

_CONVS_IN_BLOCK = 6
Size = Annotated[Literal["l", "x", "h"], Field(description="which of the published networks")]


class _StageRow(NamedTuple):
    width: int
    out_channels: int
    blocks: int


_STEMS = {"l": (32, 48), "x": (32, 64), "h": (48, 96)}
_STAGES = {
    "l": ((48, 128, 1), (96, 512, 1), (192, 1024, 3), (384, 2048, 1)),
    "x": ((64, 128, 1), (128, 512, 2), (256, 1024, 5), (512, 2048, 2)),
    "h": ((96, 192, 2), (192, 512, 3), (384, 1024, 6), (768, 2048, 3)),
}


class HGStem(nn.Module):
    """[B,3,H,W] to [B,C,H/4,W/4]: a strided 3x3, two 2x2 convolutions beside a 2x2 max-pool, a strided 3x3, a 1x1."""

    def __init__(self, in_channels: int, middle: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(in_channels, middle, 3, 2, activation="relu")
        self.conv2a = ConvNorm(middle, middle // 2, 2, activation="relu")
        self.conv2b = ConvNorm(middle // 2, middle, 2, activation="relu")
        self.pool = nn.MaxPool2d(2, 1, ceil_mode=True)
        self.conv3 = ConvNorm(2 * middle, middle, 3, 2, activation="relu")
        self.conv4 = ConvNorm(middle, out_channels, activation="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = _padded(self.conv1(x))
        branch = self.conv2b(_padded(self.conv2a(x)))
        return self.conv4(self.conv3(torch.cat([self.pool(x), branch], dim=1)))


def _padded(x: Tensor) -> Tensor:
    """One row and column of zeros at the bottom and right, so that a 2x2 window keeps the size."""
    return functional.pad(x, (0, 1, 0, 1))


class LightConv(nn.Module):
    """A 1x1 convolution without activation, then a depthwise one with ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.pointwise = ConvNorm(in_channels, out_channels)
        self.depthwise = ConvNorm(out_channels, out_channels, kernel_size, groups=out_channels, activation="relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.depthwise(self.pointwise(x))


class HGBlock(nn.Module):
    """Six convolutions in a row; the input and all their outputs are concatenated and squeezed by two 1x1."""

    def __init__(
        self, in_channels: int, width: int, out_channels: int, kernel_size: int, light: bool, residual: bool
    ) -> None:
        super().__init__()
        self.residual = residual
        self.convs = nn.ModuleList()
        for index in range(_CONVS_IN_BLOCK):
            channels = in_channels if index == 0 else width
            self.convs.append(
                LightConv(channels, width, kernel_size)
                if light
                else ConvNorm(channels, width, kernel_size, activation="relu")
            )
        self.squeeze = ConvNorm(in_channels + _CONVS_IN_BLOCK * width, out_channels // 2, activation="relu")
        self.excite = ConvNorm(out_channels // 2, out_channels, activation="relu")

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for conv in self.convs:
            maps.append(conv(maps[-1]))
        y = self.excite(self.squeeze(torch.cat(maps, dim=1)))
        return x + y if self.residual else y


class HGStage(nn.Module):
    """An optional depthwise downsample, blocks named block0, block1, ..., the stage's attention."""

    def __init__(self, slots: SlotFiller, in_channels: int, row: _StageRow, number: int) -> None:
        super().__init__()
        deep = number > 2
        self.downsample: nn.Module = nn.Identity()
        if number > 1:
            self.downsample = ConvNorm(in_channels, in_channels, 3, 2, groups=in_channels)
        self.blocks = [f"block{index}" for index in range(row.blocks)]
        for index, name in enumerate(self.blocks):
            channels = in_channels if index == 0 else row.out_channels
            block = HGBlock(channels, row.width, row.out_channels, 5 if deep else 3, deep, index > 0)
            self.add_module(name, block)
        self.attention = slots.fill(
            STAGE_ATTENTION, default="none", in_channels=row.out_channels, out_channels=row.out_channels
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.downsample(x)
        for name in self.blocks:
            x = getattr(self, name)(x)
        return self.attention(x)


@part(
    "hgnetv2",
    fits=[BACKBONE],
    paper="arXiv:2304.08069",
    licence="Apache-2.0 originals (RT-DETR, PaddleClas)",
    slots=[STAGE_ATTENTION],
)
class HGNetV2(nn.Module):
    """PP-HGNetV2: stages of densely aggregated convolutions, light (pointwise and depthwise) in the last two.

    A block is excite(squeeze(cat(x0, ..., x6))) with x0 the input and x(i+1) = conv(xi), plus x0 from a stage's second
    block on.

    [B,3,H,W] in 0..1 to a list of maps [B,C,ceil(H/s),ceil(W/s)] for each of `strides` (of 4, 8, 16, 32).
    """

    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)

    def __init__(self, slots: SlotFiller, strides: Sequence[int] = (8, 16, 32), *, size: Size = "l") -> None:
        super().__init__()
        rows = [_StageRow(*row) for row in _STAGES[size]]
        middle, previous = _STEMS[size]
        self.strides = tuple(strides)
        self.channels = tuple(rows[(4, 8, 16, 32).index(stride)].out_channels for stride in strides)
        self.stem = HGStem(3, middle, previous)
        for number, row in enumerate(rows, start=1):
            self.add_module(f"stage{number}", HGStage(slots.at(stage=number), previous, row, number))
            previous = row.out_channels

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        maps = {}
        for number, stride in enumerate((4, 8, 16, 32), start=1):
            x = maps[stride] = getattr(self, f"stage{number}")(x)
        return [maps[stride] for stride in self.strides]
