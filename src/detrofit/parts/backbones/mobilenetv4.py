"""`mobilenetv4`: MobileNetV4's convolutional and hybrid networks (arXiv:2404.10518)."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor

from detrofit.parts.backbones.timm import TimmBackbone
from detrofit.parts.layers import DropPathRate
from detrofit.parts.registry import part
from detrofit.parts.slots import BACKBONE

_LAST_CHANNELS = {"small": 128, "medium": 256, "large": 512}
Size = Annotated[
    Literal["conv-small", "conv-medium", "conv-large", "hybrid-medium", "hybrid-large"],
    Field(description="which of the published networks"),
]


@part(
    "mobilenetv4",
    fits=[BACKBONE],
    paper="arXiv:2404.10518",
    licence="Apache-2.0 (timm, which this part uses); timm's weights Apache-2.0",
)
class MobileNetV4(TimmBackbone):
    """MobileNetV4 out of universal inverted bottlenecks; the hybrids have mobile multi-query attention as well.

    A block is x + project(depthwise(expand(depthwise(x)))), each convolution with norm, one or both depthwise ones left
    out in some blocks; without the sum where the shape changes.

    [B,3,H,W] to a list of maps for each of `strides` (of 4, 8, 16, 32). The last one is that of the stride-32 blocks
    (128, 256 or 512 channels): the 960-channel convolution of the classifier's head, which timm gives as its last
    feature map, is left out.
    """

    def __init__(
        self,
        strides: Sequence[int] = (8, 16, 32),
        *,
        size: Size = "conv-small",
        drop_path: DropPathRate = 0.0,
    ) -> None:
        super().__init__(strides, name=f"mobilenetv4_{size.replace('-', '_')}", drop_path=drop_path)
        last = _LAST_CHANNELS[size.partition("-")[2]]
        self.channels = tuple(
            last if stride == 32 else channels for stride, channels in zip(self.strides, self.channels)
        )

    def new_net(self) -> Any:
        net = super().new_net()
        del net.blocks[-1]
        return net

    def forward(self, x: Tensor) -> list[Tensor]:
        net = self.net
        x = net.act1(net.bn1(net.conv_stem(x)))
        maps = {}
        for stride, stage in zip((4, 8, 16, 32), net.blocks):
            x = maps[stride] = stage(x)
        return [maps[stride] for stride in self.strides]
