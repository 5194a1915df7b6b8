"""`repncspelan4` and `repncspelan4-extradw`: GELAN's aggregation block of YOLOv9 (arXiv:2402.13616)."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from detrofit.parts.blocks.uib import ExtraDW, Kernel
from detrofit.parts.fusion.csp_rep import RepVggBlock
from detrofit.parts.layers import Activation, ConvNorm, activation_module, make_divisible
from detrofit.parts.registry import part
from detrofit.parts.slots import FUSION_BLOCK, STAGE_BLOCK

_FITS = (FUSION_BLOCK, STAGE_BLOCK)
_LICENCE = "GPL-3.0 original (YOLOv9); written from the definition"

Builder = Callable[[int], nn.Module]
Expansion = Annotated[
    float, Field(gt=0, le=4, description="width that is split and aggregated, as a multiple of the output width")
]
BranchExpansion = Annotated[
    float, Field(gt=0, le=4, description="width of each computed branch, as a multiple of the output width")
]
Blocks = Annotated[int, Field(ge=1, le=12, description="bottlenecks in each of the two branches")]
Site = Annotated[Literal["i", "ii", "iii", "iv"], Field(description="which inner convolutions ExtraDW replaces")]


class RepBottleneck(nn.Module):
    """x + conv3x3(rep(x)) at one width, `rep` being a RepConv or what replaces it. [B,C,H,W] to the same."""

    def __init__(self, channels: int, rep: nn.Module) -> None:
        super().__init__()
        self.rep = rep
        self.conv = ConvNorm(channels, channels, 3, activation="silu")

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(self.rep(x))


class RepNCSP(nn.Module):
    """Two 1x1 branches at half the output width, one through bottlenecks, concatenated and mixed by a 1x1.

    [B,Cin,H,W] to [B,Cout,H,W].
    """

    def __init__(self, in_channels: int, out_channels: int, blocks: int, bottleneck: Builder) -> None:
        super().__init__()
        hidden = out_channels // 2
        self.conv1 = ConvNorm(in_channels, hidden, activation="silu")
        self.conv2 = ConvNorm(in_channels, hidden, activation="silu")
        self.blocks = nn.Sequential(OrderedDict((f"block{index}", bottleneck(hidden)) for index in range(blocks)))
        self.conv3 = ConvNorm(2 * hidden, out_channels, activation="silu")

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(torch.cat([self.blocks(self.conv1(x)), self.conv2(x)], dim=1))


def rep_bottleneck(channels: int) -> nn.Module:
    """The published bottleneck: a RepConv, then a 3x3."""
    return RepBottleneck(channels, RepVggBlock(channels, channels))


def conv3x3(channels: int) -> nn.Module:
    """The published end of a branch."""
    return ConvNorm(channels, channels, 3, activation="silu")


class GELAN(nn.Module):
    """The aggregation of RepNCSPELAN4 in absolute widths. [B,Cin,H,W] to [B,Cout,H,W].

    y0, y1 = halves of a 1x1 to `middle` channels; y2 = end(csp(y1)); y3 = end(csp(y2)), each `branch` wide; a 1x1 of
    their concatenation. `bottleneck` builds what stands inside a csp, `end` what follows it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        middle: int,
        branch: int,
        blocks: int = 1,
        bottleneck: Builder = rep_bottleneck,
        end: Builder = conv3x3,
    ) -> None:
        super().__init__()
        self.split = ConvNorm(in_channels, middle, activation="silu")
        self.csp1 = RepNCSP(middle // 2, branch, blocks, bottleneck)
        self.end1 = end(branch)
        self.csp2 = RepNCSP(branch, branch, blocks, bottleneck)
        self.end2 = end(branch)
        self.aggregate = ConvNorm(middle + 2 * branch, out_channels, activation="silu")

    def forward(self, x: Tensor) -> Tensor:
        y0, y1 = self.split(x).chunk(2, dim=1)
        y2 = self.end1(self.csp1(y1))
        y3 = self.end2(self.csp2(y2))
        return self.aggregate(torch.cat([y0, y1, y2, y3], dim=1))


@part("repncspelan4", fits=_FITS, paper="arXiv:2402.13616", licence=_LICENCE, can_widen=True)
class RepNCSPELAN4(GELAN):
    """GELAN's block of YOLOv9: a split, two chained branches of RepConv bottlenecks, all four parts aggregated.

    y0, y1 = halves(conv1x1(x)); y2 = conv3x3(csp(y1)); y3 = conv3x3(csp(y2)); out = conv1x1(cat(y0, y1, y2, y3)), every
    convolution with norm and SiLU. [B,Cin,H,W] to [B,Cout,H,W]; it cannot stride. The split width is Cout x
    `expansion`, that of a branch Cout x `branch_expansion`, both rounded to a multiple of 8. `fuse()` merges the 3x3
    and 1x1 of each RepConv into one convolution. With the defaults it is smaller than RT-DETR-R50's fusion block and
    larger than R18's.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        expansion: Expansion = 1.0,
        branch_expansion: BranchExpansion = 0.5,
        blocks: Blocks = 1,
    ) -> None:
        middle, branch = make_divisible(out_channels * expansion), make_divisible(out_channels * branch_expansion)
        super().__init__(in_channels, out_channels, middle, branch, blocks)


@part(
    "repncspelan4-extradw",
    fits=_FITS,
    paper="arXiv:2402.13616, arXiv:2404.10518",
    licence=f"{_LICENCE}; Apache-2.0 originals of ExtraDW",
    can_widen=True,
)
class RepNCSPELAN4ExtraDW(GELAN):
    """GELAN's block with MobileNetV4's ExtraDW in place of its inner convolutions.

    y0, y1 = halves(conv1x1(x)); y2 = end(csp(y1)); y3 = end(csp(y2)); out = conv1x1(cat(y0, y1, y2, y3)).
    `site` says of which: `i` the whole bottleneck inside a csp (ExtraDW has its own skip); `ii` the bottleneck's
    RepConv only (SiLU after it, and no skip of its own inside the bottleneck's); `iii` the 3x3 at the end of each
    branch (with its own skip, SiLU after it); `iv` both i and iii. [B,Cin,H,W] to [B,Cout,H,W]; it cannot stride.
    `expand`, the kernels and `activation` are ExtraDW's, the other options those of `repncspelan4`. Where a RepConv
    goes, so does its merging.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        site: Site = "i",
        expand: Annotated[float, Field(gt=0, le=8, description="hidden width of ExtraDW, as a multiple")] = 2.0,
        start_kernel: Kernel = 3,
        middle_kernel: Kernel = 3,
        activation: Activation = "relu",
        expansion: Expansion = 1.0,
        branch_expansion: BranchExpansion = 0.5,
        blocks: Blocks = 1,
    ) -> None:
        def extradw(channels: int, residual: bool = True) -> nn.Module:
            return ExtraDW(
                channels, channels, expand=expand, start_kernel=start_kernel, middle_kernel=middle_kernel,
                activation=activation, residual=residual,
            )  # fmt: skip

        bottlenecks: dict[str, Builder] = {
            "i": extradw,
            "ii": lambda channels: RepBottleneck(channels, _then_silu(extradw(channels, residual=False))),
            "iv": extradw,
        }
        super().__init__(
            in_channels,
            out_channels,
            make_divisible(out_channels * expansion),
            make_divisible(out_channels * branch_expansion),
            blocks,
            bottlenecks.get(site, rep_bottleneck),
            (lambda channels: _then_silu(extradw(channels))) if site in ("iii", "iv") else conv3x3,
        )


def _then_silu(module: nn.Module) -> nn.Module:
    return nn.Sequential(OrderedDict(extradw=module, activation=activation_module("silu")))
