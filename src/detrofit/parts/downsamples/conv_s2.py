"""`conv-s2`: the stock strided convolution."""

from detrofit.parts.layers import ConvNorm
from detrofit.parts.registry import part
from detrofit.parts.slots import ENCODER_DOWNSAMPLE, STAGE_DOWNSAMPLE


@part(
    "conv-s2",
    fits=[STAGE_DOWNSAMPLE, ENCODER_DOWNSAMPLE],
    paper="arXiv:1512.03385",
    licence="written from the paper",
    can_widen=True,
)
class StridedConv(ConvNorm):
    """A 3x3 convolution of stride 2 and batch norm; the host applies its own activation after it.

    [B,Cin,H,W] to [B,Cout,ceil(H/2),ceil(W/2)].
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, 2)
