"""`pkinet`: the poly kernel inception network (arXiv:2403.06258)."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from detrofit.parts.assembly import SlotFiller
from detrofit.parts.blocks.pki import ConvFFN, PKIBlock
from detrofit.parts.layers import ConvNorm, DropoutRate, DropPathRate, make_divisible
from detrofit.parts.registry import part
from detrofit.parts.slots import BACKBONE, STAGE_ATTENTION, STAGE_DOWNSAMPLE

_CAA_KERNEL = 11
_HIDDEN_EXPANSION = 0.5
Size = Annotated[Literal["t", "s", "b"], Field(description="which of the published networks")]


class _StageRow(NamedTuple):
    out_channels: int
    blocks: int
    ffn_expand: float
    ffn_kernel: int


_FFN = ((8, 5), (8, 7), (4, 9), (4, 11))
_WIDTHS = {"t": (16, 32, 64, 128, 256), "s": (32, 64, 128, 256, 512), "b": (40, 80, 160, 320, 640)}
_BLOCKS = {"t": (4, 14, 22, 4), "s": (4, 12, 20, 4), "b": (6, 16, 24, 6)}


class PKIStage(nn.Module):
    """A downsample, then half of the channels through a feed-forward, half through parallel blocks, then two 1x1.

    [B,Cin,H,W] to [B,Cout,ceil(H/2),ceil(W/2)]. `ffn` and `blocks` keep `hidden` channels; all blocks read the same
    map, and their outputs are summed. Children are named block0, block1, ...
    """

    def __init__(
        self,
        slots: SlotFiller,
        in_channels: int,
        out_channels: int,
        hidden: int,
        ffn: nn.Module,
        blocks: Sequence[nn.Module],
    ) -> None:
        super().__init__()
        self.downsample = slots.fill(
            STAGE_DOWNSAMPLE, default="conv-s2", in_channels=in_channels, out_channels=out_channels
        )
        self.activation = nn.SiLU(inplace=True)
        self.conv1 = ConvNorm(out_channels, 2 * hidden, activation="silu")
        self.ffn = ffn
        self.blocks = [f"block{index}" for index in range(len(blocks))]
        for name, block in zip(self.blocks, blocks):
            self.add_module(name, block)
        self.conv2 = ConvNorm(2 * hidden, out_channels, activation="silu")
        self.conv3 = ConvNorm(out_channels, out_channels, activation="silu")
        self.attention = slots.fill(
            STAGE_ATTENTION, default="none", in_channels=out_channels, out_channels=out_channels
        )

    def forward(self, x: Tensor) -> Tensor:
        context, local = self.conv1(self.activation(self.downsample(x))).chunk(2, dim=1)
        context = context + self.ffn(context)
        summed = sum(getattr(self, name)(local) for name in self.blocks)
        return self.attention(self.conv3(self.conv2(torch.cat([context, summed], dim=1))))


@part(
    "pkinet",
    fits=[BACKBONE],
    paper="arXiv:2403.06258",
    licence="Apache-2.0 original (PKINet)",
    slots=[STAGE_DOWNSAMPLE, STAGE_ATTENTION],
)
class PKINet(nn.Module):
    """PKINet: stages of parallel blocks with depthwise kernels from 3 to 11 and strip attention up to 53, for objects
    of very different sizes.

    A stage is conv3(conv2(cat(a + feed_forward(a), sum of block_i(b)))), a and b being the halves of
    conv1(downsample(x)); each block is the part `pki`, and all of a stage read the same b.

    [B,3,H,W] in 0..1 to a list of maps [B,C,ceil(H/s),ceil(W/s)] for each of `strides` (of 4, 8, 16, 32). `drop_path`
    is the rate of the last block; the rates rise linearly from 0. `dropout` is that of the blocks. Norms have eps 1e-5,
    as in the released networks.
    """

    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)

    def __init__(
        self,
        slots: SlotFiller,
        strides: Sequence[int] = (8, 16, 32),
        *,
        size: Size = "t",
        dropout: DropoutRate = 0.1,
        drop_path: DropPathRate = 0.1,
    ) -> None:
        super().__init__()
        previous, *widths = _WIDTHS[size]
        rows = [_StageRow(*row) for row in zip(widths, _BLOCKS[size], *zip(*_FFN))]
        rates = _linear_rates(drop_path, [row.blocks for row in rows])
        self.strides = tuple(strides)
        self.channels = tuple(widths[(4, 8, 16, 32).index(stride)] for stride in strides)
        self.stem = nn.Sequential(
            OrderedDict(
                conv1=ConvNorm(3, previous, 3, 2, activation="silu"),
                conv2=ConvNorm(previous, previous, 3, activation="silu"),
                conv3=ConvNorm(previous, previous, 3, activation="silu"),
            )
        )
        for number, (row, stage_rates) in enumerate(zip(rows, rates), start=1):
            self.add_module(f"stage{number}", _stage(slots.at(stage=number), previous, row, dropout, stage_rates))
            previous = row.out_channels

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        maps = {}
        for number, stride in enumerate((4, 8, 16, 32), start=1):
            x = maps[stride] = getattr(self, f"stage{number}")(x)
        return [maps[stride] for stride in self.strides]


def _stage(
    slots: SlotFiller, in_channels: int, row: _StageRow, dropout: float, drop_paths: Sequence[float]
) -> PKIStage:
    """A published stage: the attention of its block i has kernels of 11 + 2i."""
    hidden = make_divisible(int(row.out_channels * _HIDDEN_EXPANSION))
    blocks = [
        PKIBlock(hidden, hidden, caa_kernel=_CAA_KERNEL + 2 * index, dropout=dropout, drop_path=rate)
        for index, rate in enumerate(drop_paths)
    ]
    ffn = ConvFFN(hidden, hidden, row.ffn_expand, row.ffn_kernel, dropout=0.0)  # only the blocks drop, as published
    return PKIStage(slots, in_channels, row.out_channels, hidden, ffn, blocks)


def _linear_rates(last: float, blocks: Sequence[int]) -> list[list[float]]:
    """Rates from 0 to `last` over all blocks, by stage."""
    total = sum(blocks)
    rates = iter(last * index / (total - 1) for index in range(total))
    return [[next(rates) for _ in range(count)] for count in blocks]
