"""`spd-bottleneck`: the residual bottleneck of SPD-Conv's ResNet-50 (arXiv:2208.03641)."""

from torch import Tensor, nn

from detrofit.parts.downsamples.spd import SpaceToDepth
from detrofit.parts.layers import ConvNorm, PadToMultiple, Residual
from detrofit.parts.registry import part
from detrofit.parts.slots import STAGE_BLOCK


@part(
    "spd-bottleneck",
    fits=[STAGE_BLOCK],
    paper="arXiv:2208.03641",
    licence="MIT original (SPD-Conv)",
    can_stride=True,
    can_widen=True,
    channel_multiple=4,
)
class SPDBottleneck(nn.Module):
    """A residual bottleneck whose 3x3 convolution never strides: where the block does, space-to-depth follows it.

    1x1 to Cout/4 with norm and ReLU; 3x3; [space-to-depth]; norm, ReLU; 1x1 to Cout with norm; plus the input, or its
    (strided) 1x1 projection where the shape changes; ReLU. [B,Cin,H,W] to [B,Cout,ceil(H/stride),ceil(W/stride)]; odd
    sizes are padded before space-to-depth. Without `residual` nothing is added and the last ReLU is the host's.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, *, residual: Residual = True) -> None:
        super().__init__()
        width = out_channels // 4
        self.reduce = ConvNorm(in_channels, width, activation="relu")
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.space_to_depth = nn.Identity() if stride == 1 else PadToMultiple(SpaceToDepth(), 2)
        width *= stride**2
        self.norm = nn.BatchNorm2d(width)
        self.expand = ConvNorm(width, out_channels)
        self.activation = nn.ReLU(inplace=True)
        self.residual = residual
        self.shortcut: nn.Module = nn.Identity()
        if residual and (stride > 1 or in_channels != out_channels):
            self.shortcut = ConvNorm(in_channels, out_channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.space_to_depth(self.conv(self.reduce(x)))
        y = self.expand(self.activation(self.norm(y)))
        return self.activation(y + self.shortcut(x)) if self.residual else y
