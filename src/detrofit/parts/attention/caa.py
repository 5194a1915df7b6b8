"""`caa`: context anchor attention of PKINet (arXiv:2403.06258)."""

from typing import Annotated

from pydantic import AfterValidator, Field
from torch import Tensor, nn

from detrofit.parts.layers import ConvNorm, Depthwise
from detrofit.parts.registry import part
from detrofit.parts.slots import ENCODER_ATTENTION, STAGE_ATTENTION


def _odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise ValueError("a kernel that keeps the size must be odd")
    return kernel


Strip = Annotated[int, Field(ge=3, le=63, description="length of the strips, odd"), AfterValidator(_odd)]


class ContextAnchor(nn.Module):
    """The attention map of context anchor attention, in 0..1, of the shape [B,C,H,W] of its input.

    sigmoid(conv2(vertical(horizontal(conv1(average7x7(x)))))); the strips are depthwise with bias. With `norm` both
    1x1 convolutions have batch norm and `activation` (the class's default), without it all four are plain and biased
    (as inside a PKI block).
    """

    def __init__(
        self,
        channels: int,
        horizontal_kernel: int,
        vertical_kernel: int,
        norm: bool,
        activation: str | None = "silu",
    ) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(7, 1, padding=3)
        self.conv1 = _pointwise(channels, norm, activation)
        self.horizontal = Depthwise(channels, (1, horizontal_kernel))
        self.vertical = Depthwise(channels, (vertical_kernel, 1))
        self.conv2 = _pointwise(channels, norm, activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.vertical(self.horizontal(self.conv1(self.pool(x))))).sigmoid()


def _pointwise(channels: int, norm: bool, activation: str | None) -> nn.Module:
    return ConvNorm(channels, channels, activation=activation) if norm else nn.Conv2d(channels, channels, 1)


@part(
    "caa",
    fits=[STAGE_ATTENTION, ENCODER_ATTENTION],
    paper="arXiv:2403.06258",
    licence="Apache-2.0 original (PKINet)",
)
class ContextAnchorAttention(nn.Module):
    """Context anchor attention: the map times a gate that sees far along rows and columns by two strip convolutions.

    x * sigmoid(conv2(vertical(horizontal(conv1(average7x7(x)))))), [B,C,H,W] to the same. `norm` gives the 1x1
    convolutions batch norm and SiLU, as the original's class and the plug-in that circulates have them by default.
    Inside the paper's network they have neither: so it is in `pki` and `pkinet`, and here with `norm` off.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        horizontal_kernel: Strip = 11,
        vertical_kernel: Strip = 11,
        norm: Annotated[bool, Field(description="batch norm and SiLU in the 1x1 convolutions")] = True,
    ) -> None:
        super().__init__()
        self.anchor = ContextAnchor(in_channels, horizontal_kernel, vertical_kernel, norm)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.anchor(x)
