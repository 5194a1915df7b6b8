"""`fasternet-block`: the block of FasterNet (arXiv:2303.03667)."""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from detrofit.parts.blocks.pconv import Divisor, PartialConv
from detrofit.parts.layers import Activation, ConvNorm, DropPath, DropPathRate, InitialScale, LayerScale, Residual
from detrofit.parts.registry import part
from detrofit.parts.slots import STAGE_BLOCK


@part(
    "fasternet-block",
    fits=[STAGE_BLOCK],
    paper="arXiv:2303.03667",
    licence="original code (FasterNet) without a licence file; written from the paper",
)
class FasterNetBlock(nn.Module):
    """FasterNet's block: partial convolution, then a widening and a narrowing 1x1, with one norm between them.

    x + drop_path(scale(narrow(activation(norm(widen(pconv(x))))))), [B,C,H,W] to the same. The hidden width is
    int(C x `expand`). Nothing follows the last 1x1: no norm, no activation. It cannot stride or widen. FasterNet's two
    smallest nets use GELU, the others ReLU; none uses layer scale.

    This is the paper's block. The plug-in that circulates as Faster_Block has SiLU, drops paths by default, and puts a
    1x1 of its own where the width changes.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        expand: Annotated[float, Field(gt=0, le=8, description="hidden width as a multiple of the width")] = 2.0,
        divisor: Divisor = 4,
        activation: Activation = "relu",
        layer_scale: InitialScale = None,
        drop_path: DropPathRate = 0.0,
        residual: Residual = True,
    ) -> None:
        super().__init__()
        hidden = max(1, int(in_channels * expand))
        self.pconv = PartialConv(in_channels, divisor=divisor)
        self.widen = ConvNorm(in_channels, hidden, activation=activation)
        self.narrow = nn.Conv2d(hidden, in_channels, 1, bias=False)
        self.scale = LayerScale(in_channels, layer_scale) if layer_scale is not None else nn.Identity()
        self.drop_path = DropPath(drop_path)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.drop_path(self.scale(self.narrow(self.widen(self.pconv(x)))))
        return x + y if self.residual else y
