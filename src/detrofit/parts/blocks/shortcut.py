"""The shortcut of ResNet-vd's residual blocks."""

from collections import OrderedDict

from torch import nn

from detrofit.parts.layers import ConvNorm


def vd_shortcut(in_channels: int, out_channels: int, stride: int, projection: bool, pooled: bool = True) -> nn.Module:
    """Identity, or a projection: average pooling where it strides, then a 1x1 convolution (arXiv:1812.01187).

    [B,Cin,H,W] to [B,Cout,ceil(H/stride),ceil(W/stride)]; it projects where the shape changes, or on `projection`.
    Not `pooled`, the 1x1 strides by itself, as in the first ResNets (arXiv:1512.03385).
    """
    if stride > 1 and pooled:
        # Ceil mode gives ceil(n/2) on odd sizes, as the strided 3x3 of the branch does.
        pool = nn.AvgPool2d(2, stride, ceil_mode=True)
        return nn.Sequential(OrderedDict(pool=pool, projection=ConvNorm(in_channels, out_channels)))
    if projection or stride > 1 or in_channels != out_channels:
        return ConvNorm(in_channels, out_channels, stride=stride)
    return nn.Identity()
