"""`resnet-vd`: the stock backbone of RT-DETR (arXiv:1812.01187)."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from detrofit.parts.assembly import SlotFiller
from detrofit.parts.blocks.shortcut import vd_shortcut
from detrofit.parts.registry import part
from detrofit.parts.slots import (
    BACKBONE,
    BACKBONE_STEM,
    STAGE_ATTENTION,
    STAGE_BLOCK,
    STAGE_CONV,
    STAGE_DOWNSAMPLE,
    STAGE_INSERT,
)

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
_BOTTLENECK_EXPANSION = 4
Depth = Annotated[Literal[18, 34, 50, 101], Field(description="which of the published depths; bottlenecks from 50 on")]
Width = Annotated[int, Field(ge=8, le=2048, multiple_of=8)]
Widths = Annotated[tuple[Width, Width, Width, Width], Field(description="of the stages, finest first")]


class HostedBlock(nn.Module):
    """A block inside the host's own shortcut: ReLU(block(x) + shortcut(x))."""

    def __init__(self, block: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.shortcut = shortcut
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.block(x) + self.shortcut(x))


class Stage(nn.Module):
    """The residual blocks of one stride, then the stage's attention. Children are named block0, block1, ..."""

    def __init__(
        self, slots: SlotFiller, in_channels: int, out_channels: int, stride: int, blocks: int, default: str
    ) -> None:
        super().__init__()
        self.blocks = [f"block{index}" for index in range(blocks)]
        for index, name in enumerate(self.blocks):
            block = self._block(
                slots,
                index,
                default,
                in_channels if index == 0 else out_channels,
                out_channels,
                stride if index == 0 else 1,
            )
            self.add_module(name, block)
        self.attention = slots.fill(
            STAGE_ATTENTION, default="none", in_channels=out_channels, out_channels=out_channels
        )

    @staticmethod
    def _block(
        slots: SlotFiller, index: int, default: str, in_channels: int, out_channels: int, stride: int
    ) -> nn.Module:
        shape = {"in_channels": in_channels, "out_channels": out_channels, "stride": stride}
        block = slots.fill(STAGE_BLOCK, index=index, default=default, first=index == 0, **shape)
        if slots.choice(STAGE_BLOCK, default, index).at["shortcut"] == "own":
            return block
        return HostedBlock(block, vd_shortcut(in_channels, out_channels, stride, projection=index == 0))

    def forward(self, x: Tensor) -> Tensor:
        for name in self.blocks:
            x = getattr(self, name)(x)
        return self.attention(x)


@part(
    "resnet-vd",
    fits=[BACKBONE],
    paper="arXiv:1812.01187",
    licence="Apache-2.0 original (RT-DETR)",
    slots=[BACKBONE_STEM, STAGE_BLOCK, STAGE_CONV, STAGE_INSERT, STAGE_ATTENTION, STAGE_DOWNSAMPLE],
)
class ResNetVD(nn.Module):
    """ResNet-vd: a deep stem, then four stages of residual blocks with average-pooled shortcuts.

    A block is ReLU(f(x) + shortcut(x)), f being two 3x3 convolutions, or a 1x1, a 3x3 and a 1x1 from depth 50 on.

    [B,3,H,W] in 0..1 to a list of maps [B,C,ceil(H/s),ceil(W/s)] for each of `strides` (of 4, 8, 16, 32).
    `widths` are those of the stages; with bottlenecks (depth 50 and 101) the outputs are four times as wide.
    """

    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)

    def __init__(
        self,
        slots: SlotFiller,
        strides: Sequence[int] = (8, 16, 32),
        *,
        depth: Depth = 18,
        widths: Widths = (64, 128, 256, 512),
    ) -> None:
        super().__init__()
        bottleneck = depth >= 50
        outputs = [width * (_BOTTLENECK_EXPANSION if bottleneck else 1) for width in widths]
        self.strides = tuple(strides)
        self.channels = tuple(outputs[(4, 8, 16, 32).index(stride)] for stride in strides)
        self.stem = slots.fill(BACKBONE_STEM, default="deep-stem", in_channels=3, out_channels=widths[0], stride=4)
        previous = widths[0]
        for number, (out_channels, blocks) in enumerate(zip(outputs, _BLOCKS[depth]), start=1):
            stage = Stage(
                slots.at(stage=number),
                previous,
                out_channels,
                stride=1 if number == 1 else 2,
                blocks=blocks,
                default="bottleneck" if bottleneck else "basic",
            )
            self.add_module(f"stage{number}", stage)
            previous = out_channels

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        maps = {}
        for number, stride in enumerate((4, 8, 16, 32), start=1):
            x = maps[stride] = getattr(self, f"stage{number}")(x)
        return [maps[stride] for stride in self.strides]
