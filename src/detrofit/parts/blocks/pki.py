"""`pki`: the poly kernel inception block of PKINet (arXiv:2403.06258)."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from torch import Tensor, nn

from detrofit.parts.attention.caa import ContextAnchor, Strip
from detrofit.parts.layers import (
    Activation,
    ConvNorm,
    Depthwise,
    DropoutRate,
    DropPath,
    DropPathRate,
    InitialScale,
    LayerScale,
    Residual,
    make_divisible,
)
from detrofit.parts.registry import part
from detrofit.parts.slots import STAGE_BLOCK

Kernel = Literal[3, 5, 7, 9, 11, 13, 15]


def _different(kernels: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(kernels)) < len(kernels):
        raise ValueError("each kernel size may stand once")
    return kernels


Kernels = Annotated[
    tuple[Kernel, ...],
    Field(min_length=1, max_length=7, description="depthwise kernels; the others read what the first gives"),
    AfterValidator(_different),
]


class PolyKernelInception(nn.Module):
    """Depthwise convolutions of several sizes summed, gated by context anchor attention. [B,Cin,H,W] to [B,Cout,H,W].

    With p = pre(x) and d the depthwise convolution of the first kernel: q = mix(d(p) + sum of the others on d(p));
    out = post(q + q * gate(p)), or post(q * gate(p)) where `residual` is off or the width changes. pre, mix and post
    are 1x1 with norm and activation. Without `caa_kernel` the gate is p itself, as in the original code.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernels: Sequence[int],
        caa_kernel: int | None,
        *,
        expansion: float = 1.0,
        residual: bool = True,
        activation: str = "silu",
    ) -> None:
        super().__init__()
        hidden = make_divisible(int(out_channels * expansion))
        self.pre = ConvNorm(in_channels, hidden, activation=activation)
        first, *others = (Depthwise(hidden, (kernel, kernel)) for kernel in kernels)
        self.first = first
        self.others = nn.ModuleDict({f"kernel{conv.kernel_size[0]}": conv for conv in others})
        self.mix = ConvNorm(hidden, hidden, activation=activation)
        self.gate: nn.Module = nn.Identity()
        if caa_kernel is not None:
            self.gate = ContextAnchor(hidden, caa_kernel, caa_kernel, norm=False)
        self.post = ConvNorm(hidden, out_channels, activation=activation)
        self.residual = residual and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        x = self.pre(x)
        y = first = self.first(x)
        for conv in self.others.values():
            y = y + conv(first)
        y = self.mix(y)
        gated = y * self.gate(x)
        return self.post(y + gated if self.residual else gated)


class ConvFFN(nn.Module):
    """Layer norm over channels, widening 1x1, depthwise, global SiLU, narrowing 1x1; dropout after the last two.

    [B,Cin,H,W] to [B,Cout,H,W]; the width between is Cin x `expansion`. The global SiLU is x * sigmoid(mean of x over
    the map); all convolutions are biased.
    """

    def __init__(self, in_channels: int, out_channels: int, expansion: float, kernel: int, dropout: float) -> None:
        super().__init__()
        hidden = int(in_channels * expansion)
        self.norm = nn.LayerNorm(in_channels)
        self.widen = nn.Conv2d(in_channels, hidden, 1)
        self.depthwise = Depthwise(hidden, (kernel, kernel))
        self.narrow = nn.Conv2d(hidden, out_channels, 1)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.depthwise(self.widen(x))
        x = x * x.mean(dim=(2, 3), keepdim=True).sigmoid()
        return self.drop(self.narrow(self.drop(x)))


@part(
    "pki",
    fits=[STAGE_BLOCK],
    paper="arXiv:2403.06258",
    licence="Apache-2.0 original (PKINet)",
    can_widen=True,
)
class PKIBlock(nn.Module):
    """PKINet's block: poly kernel inception, then a convolutional feed-forward, each after a norm and added.

    y = x + drop_path(scale1 * inception(norm1(x))); y + drop_path(scale2 * feed_forward(norm2(y))). [B,Cin,H,W] to
    [B,Cout,H,W]; it cannot stride. y is Cout x `expand` wide, rounded to a multiple of 8. Both sums are left out where
    the widths of x, y and the output are not the same, or `residual` is off.

    This is the paper's whole block. The plug-in that circulates as PKIModule is its inception alone, with norms and
    activations in the attention.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernels: Kernels = (3, 5, 7, 9, 11),
        expand: Annotated[float, Field(gt=0, le=4, description="inner width as a multiple of the output's")] = 1.0,
        caa_kernel: Annotated[
            Strip | None, Field(description="length of context anchor attention's strips, odd; none: no attention")
        ] = 11,
        ffn_expand: Annotated[float, Field(gt=0, le=8, description="hidden width of the feed-forward")] = 4.0,
        ffn_kernel: Annotated[Kernel, Field(description="depthwise kernel of the feed-forward")] = 3,
        layer_scale: InitialScale = 1.0,
        activation: Activation = "silu",
        dropout: DropoutRate = 0.1,
        drop_path: DropPathRate = 0.0,
        residual: Residual = True,
    ) -> None:
        super().__init__()
        hidden = make_divisible(int(out_channels * expand))
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.inception = PolyKernelInception(in_channels, hidden, kernels, caa_kernel, activation=activation)
        self.norm2 = nn.BatchNorm2d(hidden)
        self.ffn = ConvFFN(hidden, out_channels, ffn_expand, ffn_kernel, dropout)
        self.scale1, self.scale2 = (
            nn.Identity() if layer_scale is None else LayerScale(channels, layer_scale)
            for channels in (hidden, out_channels)
        )
        self.drop_path1, self.drop_path2 = DropPath(drop_path), DropPath(drop_path)
        self.residual = residual and in_channels == hidden == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.drop_path1(self.scale1(self.inception(self.norm1(x))))
        x = x + y if self.residual else y
        y = self.drop_path2(self.scale2(self.ffn(self.norm2(x))))
        return x + y if self.residual else y
