"""`deep-stem`: the stock stem of ResNet-vd (arXiv:1812.01187)."""

from torch import Tensor, nn

from detrofit.parts.layers import Activation, ConvNorm
from detrofit.parts.registry import part
from detrofit.parts.slots import BACKBONE_STEM


@part(
    "deep-stem",
    fits=[BACKBONE_STEM],
    paper="arXiv:1812.01187",
    licence="Apache-2.0 original (RT-DETR)",
    can_widen=True,
)
class DeepStem(nn.Module):
    """Three 3x3 convolutions, the first with stride 2, then a 3x3 max-pool of stride 2. [B,3,H,W] to [B,C,H/4,W/4].

    The first two convolutions are C/2 wide; each has a norm and `activation`.
    """

    def __init__(self, in_channels: int, out_channels: int, *, activation: Activation = "relu") -> None:
        super().__init__()
        middle = out_channels // 2
        self.conv1 = ConvNorm(in_channels, middle, 3, 2, activation=activation)
        self.conv2 = ConvNorm(middle, middle, 3, activation=activation)
        self.conv3 = ConvNorm(middle, out_channels, 3, activation=activation)
        self.pool = nn.MaxPool2d(3, 2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.conv3(self.conv2(self.conv1(x))))
