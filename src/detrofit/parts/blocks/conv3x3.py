"""`conv3x3`: the stock 3x3 convolution of residual blocks."""

from detrofit.parts.layers import ConvNorm
from detrofit.parts.registry import part
from detrofit.parts.slots import STAGE_CONV


@part(
    "conv3x3",
    fits=[STAGE_CONV],
    paper="arXiv:1512.03385",
    licence="written from the paper",
    can_stride=True,
    can_widen=True,
)
class Conv3x3(ConvNorm):
    """A 3x3 convolution and batch norm; the host applies its own activation after it.

    [B,Cin,H,W] to [B,Cout,ceil(H/stride),ceil(W/stride)].
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, 3, stride)
