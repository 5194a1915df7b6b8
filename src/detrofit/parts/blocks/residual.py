"""`basic` and `bottleneck`: the stock residual blocks of ResNet-vd (arXiv:1812.01187)."""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from detrofit.parts.assembly import SlotFiller
from detrofit.parts.blocks.shortcut import vd_shortcut
from detrofit.parts.layers import Activation, ConvNorm, Residual, activation_module, make_divisible
from detrofit.parts.registry import part
from detrofit.parts.slots import STAGE_BLOCK, STAGE_CONV, STAGE_DOWNSAMPLE, STAGE_INSERT

Width = Annotated[float, Field(gt=0, le=1, description="inner width as a share of the published one")]
PooledShortcut = Annotated[
    bool, Field(description="average before a strided shortcut's 1x1; without, that 1x1 strides (plain ResNet)")
]
_INSIDE = (STAGE_CONV, STAGE_INSERT, STAGE_DOWNSAMPLE)


def _spatial_conv(slots: SlotFiller, in_channels: int, out_channels: int, stride: int, *, last: bool) -> nn.Module:
    """One 3x3 of a block: `.conv` is the last one, with `which: both` the first as well; a strided one is the stage's
    `.downsample` unless a swap of `.conv` takes it."""
    in_slot = last or slots.choice(STAGE_CONV, "conv3x3").at["which"] == "both"
    numbers = {"in_channels": in_channels, "out_channels": out_channels}
    if stride > 1 and not (in_slot and slots.chosen(STAGE_CONV)):
        return slots.fill(STAGE_DOWNSAMPLE, default="conv-s2", **numbers)
    if in_slot:
        return slots.fill(STAGE_CONV, default="conv3x3", stride=stride, **numbers)
    return ConvNorm(in_channels, out_channels, 3)


def _inner_width(published: int, share: float) -> int:
    return published if share == 1 else make_divisible(published * share)


@part(
    "basic",
    fits=[STAGE_BLOCK],
    paper="arXiv:1812.01187",
    licence="Apache-2.0 original (RT-DETR)",
    can_stride=True,
    can_widen=True,
    slots=_INSIDE,
)
class BasicBlock(nn.Module):
    """Two 3x3 convolutions with norms, and the vd shortcut.

    activation(conv2(activation(conv1(x))) + shortcut(x)), [B,Cin,H,W] to [B,Cout,ceil(H/stride),ceil(W/stride)]; conv1
    strides, and the map between is `width` x Cout wide. Without `residual` the last activation is the host's.
    """

    def __init__(
        self,
        slots: SlotFiller,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        first: bool = False,
        *,
        residual: Residual = True,
        pooled_shortcut: PooledShortcut = True,
        width: Width = 1.0,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        inner = _inner_width(out_channels, width)
        self.conv1 = _spatial_conv(slots, in_channels, inner, stride, last=False)
        self.conv2 = _spatial_conv(slots, inner, out_channels, 1, last=True)
        self.insert = slots.fill(STAGE_INSERT, default="none", in_channels=out_channels, out_channels=out_channels)
        self.shortcut = vd_shortcut(in_channels, out_channels, stride, first, pooled_shortcut) if residual else None
        self.activation = activation_module(activation)

    def forward(self, x: Tensor) -> Tensor:
        y = self.insert(self.conv2(self.activation(self.conv1(x))))
        return y if self.shortcut is None else self.activation(y + self.shortcut(x))


@part(
    "bottleneck",
    fits=[STAGE_BLOCK],
    paper="arXiv:1812.01187",
    licence="Apache-2.0 original (RT-DETR)",
    can_stride=True,
    can_widen=True,
    channel_multiple=4,
    slots=_INSIDE,
)
class Bottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1 to four times the width, each with its norm, and the vd shortcut.

    activation(expand(activation(conv(activation(reduce(x))))) + shortcut(x)), [B,Cin,H,W] to
    [B,Cout,ceil(H/stride),ceil(W/stride)]; conv strides, and the inner width is `width` x Cout / 4. Without `residual`
    the last activation is the host's.
    """

    def __init__(
        self,
        slots: SlotFiller,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        first: bool = False,
        *,
        residual: Residual = True,
        pooled_shortcut: PooledShortcut = True,
        width: Width = 1.0,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        inner = _inner_width(out_channels // 4, width)
        self.reduce = ConvNorm(in_channels, inner, activation=activation)
        self.conv = _spatial_conv(slots, inner, inner, stride, last=True)
        self.insert = slots.fill(STAGE_INSERT, default="none", in_channels=inner, out_channels=inner)
        self.expand = ConvNorm(inner, out_channels)
        self.shortcut = vd_shortcut(in_channels, out_channels, stride, first, pooled_shortcut) if residual else None
        self.activation = activation_module(activation)

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(self.insert(self.activation(self.conv(self.reduce(x)))))
        return y if self.shortcut is None else self.activation(y + self.shortcut(x))
