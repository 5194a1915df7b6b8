"""`csp-rep`: the stock fusion block of RT-DETR's neck (arXiv:2304.08069)."""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from detrofit.parts.layers import Activation, ConvNorm, activation_module, biased_copy, folded_weights
from detrofit.parts.registry import part
from detrofit.parts.slots import FUSION_BLOCK


class RepVggBlock(nn.Module):
    """activation(norm(conv 3x3) + norm(conv 1x1)), one 3x3 after `fuse()` (arXiv:2101.03697, without identity)."""

    def __init__(self, in_channels: int, out_channels: int, activation: str = "silu") -> None:
        super().__init__()
        self.conv3: nn.Module = ConvNorm(in_channels, out_channels, 3)
        self.conv1: nn.Module | None = ConvNorm(in_channels, out_channels, 1)
        self.activation = activation_module(activation)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv3(x)
        return self.activation(y if self.conv1 is None else y + self.conv1(x))

    def fuse(self) -> None:
        """Merge both branches into one 3x3 convolution, in place (eval statistics)."""
        if self.conv1 is None:
            return
        weight3, bias3 = folded_weights(self.conv3.conv, self.conv3.norm)  # type: ignore[arg-type]
        weight1, bias1 = folded_weights(self.conv1.conv, self.conv1.norm)  # type: ignore[arg-type]
        merged = biased_copy(self.conv3.conv)  # type: ignore[arg-type]
        merged.weight.data.copy_(weight3 + functional.pad(weight1, (1, 1, 1, 1)))
        merged.bias.data.copy_(bias3 + bias1)  # type: ignore[union-attr]
        self.conv3, self.conv1 = merged, None


@part(
    "csp-rep",
    fits=[FUSION_BLOCK],
    paper="arXiv:2304.08069",
    licence="Apache-2.0 original (RT-DETR)",
    can_widen=True,
)
class CspRep(nn.Module):
    """Two 1x1 branches, one through RepVGG blocks, summed; then a 1x1 where the hidden width differs from the output.

    conv3(blocks(conv1(x)) + conv2(x)), a block being activation(norm(conv3x3(y)) + norm(conv1x1(y))), which `fuse()`
    merges. [B,Cin,H,W] to [B,Cout,H,W]; the hidden width is int(Cout x `expansion`), at least 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        expansion: Annotated[float, Field(gt=0, le=4, description="hidden width as a multiple of the output's")] = 1.0,
        blocks: Annotated[int, Field(ge=1, le=12, description="RepVGG blocks, one after the other")] = 3,
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        hidden = max(1, int(out_channels * expansion))
        self.conv1 = ConvNorm(in_channels, hidden, activation=activation)
        self.conv2 = ConvNorm(in_channels, hidden, activation=activation)
        self.blocks = nn.Sequential(*(RepVggBlock(hidden, hidden, activation) for _ in range(blocks)))
        self.conv3 = nn.Identity() if hidden == out_channels else ConvNorm(hidden, out_channels, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(self.blocks(self.conv1(x)) + self.conv2(x))
