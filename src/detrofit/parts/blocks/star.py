"""`star`: the block of StarNet, an element-wise product of two projections (arXiv:2403.19967)."""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from detrofit.parts.layers import ConvNorm, DropPath, DropPathRate, Residual
from detrofit.parts.registry import part
from detrofit.parts.slots import STAGE_BLOCK

_KERNEL = 7


@part("star", fits=[STAGE_BLOCK], paper="arXiv:2403.19967", licence="Apache-2.0 original (StarNet)")
class StarBlock(nn.Module):
    """StarNet's block: two widening 1x1 convolutions of the same map are multiplied ("star"), then narrowed.

    With u = norm(depthwise7x7(x)): x + drop_path(depthwise7x7(norm(narrow(ReLU6(f1(u)) x f2(u))))), [B,C,H,W] to the
    same. f1 and f2 go from C to `expand` x C and have biases but no norm, and neither has the last depthwise one. The
    original's biases before a norm, which the norm cancels, are left out. It cannot stride or widen. `expand` is
    4 as in the published networks; the original's block by itself begins with 3.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        expand: Annotated[int, Field(ge=1, le=8, description="hidden width as a multiple of the width")] = 4,
        drop_path: DropPathRate = 0.0,
        residual: Residual = True,
    ) -> None:
        super().__init__()
        hidden = expand * in_channels
        self.depthwise1 = ConvNorm(in_channels, in_channels, _KERNEL, groups=in_channels)
        self.f1 = nn.Conv2d(in_channels, hidden, 1)
        self.f2 = nn.Conv2d(in_channels, hidden, 1)
        self.narrow = ConvNorm(hidden, in_channels)
        self.depthwise2 = nn.Conv2d(in_channels, in_channels, _KERNEL, padding=_KERNEL // 2, groups=in_channels)
        self.drop_path = DropPath(drop_path)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise1(x)
        y = self.narrow(functional.relu6(self.f1(y)) * self.f2(y))
        y = self.drop_path(self.depthwise2(y))
        return x + y if self.residual else y
