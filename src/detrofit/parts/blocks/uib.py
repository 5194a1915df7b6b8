"""`uib` and its named forms: MobileNetV4's universal inverted bottleneck (arXiv:2404.10518)."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor, nn

from detrofit.parts.layers import (
    Activation,
    ConvNorm,
    DropPath,
    DropPathRate,
    InitialScale,
    LayerScale,
    Residual,
    make_divisible,
)
from detrofit.parts.registry import part
from detrofit.parts.slots import STAGE_BLOCK, STAGE_CONV, STAGE_INSERT

_FITS = (STAGE_BLOCK, STAGE_CONV, STAGE_INSERT)
_PAPER = "arXiv:2404.10518"
_LICENCE = "Apache-2.0 originals (TensorFlow models, timm)"

Kernel = Annotated[Literal[3, 5, 7], Field(description="kernel of that depthwise convolution")]
OptionalKernel = Annotated[
    Literal[0, 3, 5, 7], Field(description="kernel of that depthwise convolution; 0 leaves it out")
]
StrideAt = Annotated[Literal["middle", "start"], Field(description="the depthwise convolution that strides")]
Expansion = Annotated[float, Field(gt=0, le=8, description="hidden width as a multiple of the input width")]


def _has_depthwise(options: Mapping[str, Any]) -> bool:
    return any(options[kernel] for kernel in ("start_kernel", "middle_kernel", "end_kernel"))


@part("uib", fits=_FITS, paper=_PAPER, licence=_LICENCE, can_stride=_has_depthwise, can_widen=True)
class UniversalInvertedBottleneck(nn.Module):
    """The general universal inverted bottleneck: three optional depthwise convolutions around two pointwise ones.

    [start depthwise] - expand 1x1, activation - [middle depthwise, activation] - project 1x1 - [end depthwise]
    - [layer scale] - [drop path] - [+ input]. Batch norm after every convolution; no activation after the start
    depthwise, the projection or the sum. [B,Cin,H,W] to [B,Cout,ceil(H/stride),ceil(W/stride)]. A kernel of 0 leaves
    that convolution out. The hidden width is Cin x expand, rounded to a multiple of 8. `residual` adds the input where
    the shape allows. `stride_at` is the depthwise convolution that strides: `middle` (or, without one, the first there
    is) or `start`.

    Of the paper's two codes this is timm's, with the choice of TensorFlow's where to stride; that one pads strided maps
    at the bottom and right alone and has a norm eps of 1e-3. The plug-in that circulates has ReLU6 and never adds the
    input.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        *,
        expand: Expansion = 4.0,
        start_kernel: OptionalKernel = 0,
        middle_kernel: OptionalKernel = 3,
        end_kernel: OptionalKernel = 0,
        stride_at: StrideAt = "middle",
        activation: Activation = "relu",
        layer_scale: InitialScale = None,
        drop_path: DropPathRate = 0.0,
        residual: Residual = True,
    ) -> None:
        super().__init__()
        hidden = make_divisible(in_channels * expand)
        preference = ("start", "middle", "end") if stride_at == "start" else ("middle", "start", "end")
        kernels = {"start": start_kernel, "middle": middle_kernel, "end": end_kernel}
        strided = next((site for site in preference if kernels[site]), None)
        strides = {site: stride if site == strided else 1 for site in kernels}
        self.start = _depthwise(in_channels, start_kernel, strides["start"])
        self.expand = ConvNorm(in_channels, hidden, activation=activation)
        self.middle = _depthwise(hidden, middle_kernel, strides["middle"], activation)
        self.project = ConvNorm(hidden, out_channels)
        self.end = _depthwise(out_channels, end_kernel, strides["end"])
        self.scale = LayerScale(out_channels, layer_scale) if layer_scale is not None else nn.Identity()
        self.drop_path = DropPath(drop_path)
        self.residual = residual and stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.end(self.project(self.middle(self.expand(self.start(x)))))
        y = self.drop_path(self.scale(y))
        return x + y if self.residual else y


def _depthwise(channels: int, kernel: int, stride: int, activation: str | None = None) -> nn.Module:
    if kernel == 0:
        return nn.Identity()
    return ConvNorm(channels, channels, kernel, stride, groups=channels, activation=activation)


@part("ib", fits=_FITS, paper=_PAPER, licence=_LICENCE, can_stride=True, can_widen=True)
class InvertedBottleneck(UniversalInvertedBottleneck):
    """MobileNetV2's inverted bottleneck, a form of UIB: expand, depthwise, project.

    x + project(depthwise(expand(x))), norms after all three and `activation` after the first two; without the sum where
    the shape changes. [B,Cin,H,W] to [B,Cout,ceil(H/stride),ceil(W/stride)]; the depthwise convolution strides.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        *,
        expand: Expansion = 4.0,
        middle_kernel: Kernel = 3,
        activation: Activation = "relu",
        layer_scale: InitialScale = None,
        drop_path: DropPathRate = 0.0,
        residual: Residual = True,
    ) -> None:
        super().__init__(
            in_channels, out_channels, stride, expand=expand, middle_kernel=middle_kernel, activation=activation,
            layer_scale=layer_scale, drop_path=drop_path, residual=residual,
        )  # fmt: skip


@part("convnext-like", fits=_FITS, paper=_PAPER, licence=_LICENCE, can_stride=True, can_widen=True)
class ConvNextLike(UniversalInvertedBottleneck):
    """A form of UIB with the depthwise convolution first, at the narrow width: depthwise, expand, project.

    x + project(expand(depthwise(x))), norms after all three and `activation` after the expansion alone; without the sum
    where the shape changes. [B,Cin,H,W] to [B,Cout,ceil(H/stride),ceil(W/stride)]; the depthwise convolution strides.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        *,
        expand: Expansion = 4.0,
        start_kernel: Kernel = 3,
        activation: Activation = "relu",
        layer_scale: InitialScale = None,
        drop_path: DropPathRate = 0.0,
        residual: Residual = True,
    ) -> None:
        super().__init__(
            in_channels, out_channels, stride, expand=expand, start_kernel=start_kernel, middle_kernel=0,
            activation=activation, layer_scale=layer_scale, drop_path=drop_path, residual=residual,
        )  # fmt: skip


@part("extradw", fits=_FITS, paper=_PAPER, licence=_LICENCE, can_stride=True, can_widen=True)
class ExtraDW(UniversalInvertedBottleneck):
    """MobileNetV4's ExtraDW, a form of UIB: a depthwise convolution before the expansion and one inside it.

    x + project(depthwise(expand(depthwise(x)))), norms after all four and `activation` after the middle two; without
    the sum where the shape changes. [B,Cin,H,W] to [B,Cout,ceil(H/stride),ceil(W/stride)]. The second depthwise
    convolution strides; with `stride_at` start the first, so that the expansion runs at the small size.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        *,
        expand: Expansion = 4.0,
        start_kernel: Kernel = 3,
        middle_kernel: Kernel = 3,
        stride_at: StrideAt = "middle",
        activation: Activation = "relu",
        layer_scale: InitialScale = None,
        drop_path: DropPathRate = 0.0,
        residual: Residual = True,
    ) -> None:
        super().__init__(
            in_channels, out_channels, stride, expand=expand, start_kernel=start_kernel, middle_kernel=middle_kernel,
            stride_at=stride_at, activation=activation, layer_scale=layer_scale, drop_path=drop_path,
            residual=residual,
        )  # fmt: skip


@part("ffn", fits=_FITS, paper=_PAPER, licence=_LICENCE, can_widen=True)
class FeedForward(UniversalInvertedBottleneck):
    """A form of UIB without any depthwise convolution: expand, project.

    x + project(expand(x)), norms after both and `activation` after the first; without the sum where the width changes.
    [B,Cin,H,W] to [B,Cout,H,W]; it cannot stride.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        expand: Expansion = 4.0,
        activation: Activation = "relu",
        layer_scale: InitialScale = None,
        drop_path: DropPathRate = 0.0,
        residual: Residual = True,
    ) -> None:
        super().__init__(
            in_channels, out_channels, expand=expand, middle_kernel=0, activation=activation,
            layer_scale=layer_scale, drop_path=drop_path, residual=residual,
        )  # fmt: skip
