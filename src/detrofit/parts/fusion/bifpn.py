"""`bifpn`: EfficientDet's bidirectional feature pyramid with fast normalised weights (arXiv:1911.09070)."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from detrofit.parts.layers import ConvNorm
from detrofit.parts.registry import part
from detrofit.parts.slots import ENCODER_FUSION

_NORM_EPS = 1e-3
_WEIGHT_EPS = 1e-4
Resample = Literal["same", "up", "down"]


class BiFPNNode(nn.Module):
    """One node: a weighted mean of its inputs, SiLU, a depthwise and a pointwise convolution with norm.

    conv(SiLU(sum of w_i x_i / (sum of w + 1e-4))), w = ReLU of one learnt number an input. The inputs are first
    projected by a 1x1 with norm where their width differs, then brought to one size as `resample` says: that of the
    `same` ones, `up` by nearest neighbour, `down` by a 3x3 max-pool of stride 2.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int, resample: Sequence[Resample]) -> None:
        super().__init__()
        self.resample = tuple(resample)
        self.weights = nn.Parameter(torch.ones(len(in_channels)))
        self.projections = nn.ModuleDict(
            {
                f"input{index}": ConvNorm(channels, out_channels, eps=_NORM_EPS)
                for index, channels in enumerate(in_channels)
                if channels != out_channels
            }
        )
        self.pool = nn.MaxPool2d(3, 2, padding=1)
        self.depthwise = nn.Conv2d(out_channels, out_channels, 3, padding=1, groups=out_channels, bias=False)
        self.pointwise = ConvNorm(out_channels, out_channels, eps=_NORM_EPS)

    def reset_parameters(self) -> None:
        nn.init.ones_(self.weights)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return self.pointwise(self.depthwise(functional.silu(self.combine(maps))))

    def combine(self, maps: Sequence[Tensor]) -> Tensor:
        """The weighted mean of the inputs, at the size of those that are not resampled."""
        weights = self.weights.relu()
        shares = weights / (weights.sum() + _WEIGHT_EPS)
        size = maps[self.resample.index("same")].shape[-2:]
        return sum(
            (self._at_size(index, level, size) * share for index, (level, share) in enumerate(zip(maps, shares))),
            start=torch.zeros((), dtype=maps[0].dtype, device=maps[0].device),
        )

    def _at_size(self, index: int, level: Tensor, size: Sequence[int]) -> Tensor:
        name = f"input{index}"
        if name in self.projections:
            level = self.projections[name](level)
        if self.resample[index] == "up":
            return functional.interpolate(level, size=size, mode="nearest")
        return self.pool(level) if self.resample[index] == "down" else level


class BiFPNLayer(nn.Module):
    """One top-down and one bottom-up path over a list of maps [B,C,H/s,W/s], finest first, to the same shapes.

    td_i = node(x_i, up(td_i+1)), td of the coarsest level being x itself; out_0 = td_0, out_i = node(x_i, td_i,
    down(out_i-1)), and without td for the coarsest level. Nodes are named by the stride that they give.
    """

    def __init__(self, channels: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.top_down = nn.ModuleDict()
        self.bottom_up = nn.ModuleDict()
        for stride in reversed(strides[:-1]):
            self.top_down[f"stride{stride}"] = BiFPNNode([channels] * 2, channels, ("same", "up"))
        for stride in strides[1:]:
            inputs: tuple[Resample, ...] = ("same", "down") if stride == strides[-1] else ("same", "same", "down")
            self.bottom_up[f"stride{stride}"] = BiFPNNode([channels] * len(inputs), channels, inputs)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        lowered = list(maps)
        for level, node in zip(range(len(maps) - 2, -1, -1), self.top_down.values()):
            lowered[level] = node([maps[level], lowered[level + 1]])
        outputs = [lowered[0]]
        for level, node in enumerate(self.bottom_up.values(), start=1):
            between = [lowered[level]] if level < len(maps) - 1 else []
            outputs.append(node([maps[level], *between, outputs[-1]]))
        return outputs


@part(
    "bifpn",
    fits=[ENCODER_FUSION],
    paper="arXiv:1911.09070",
    licence="Apache-2.0 originals (automl, efficientdet-pytorch)",
)
class BiFPN(nn.Module):
    """EfficientDet's BiFPN: top-down and bottom-up paths of weighted nodes with separable convolutions, repeated.

    A list of maps [B,C,H/s,W/s] for `strides`, each twice the one before, to a list of the same shapes. A node is
    conv(SiLU(sum of w_i x_i / (sum of w + 1e-4))), w = ReLU of a learnt number; the bottom-up nodes also read the
    layer's input. These are the paper's whole nodes; what circulates under this name is often the weighted sum alone.
    Norms have the original's eps, 1e-3, and torch's momentum.
    """

    def __init__(
        self,
        in_channels: int,
        strides: Sequence[int],
        *,
        repeats: Annotated[int, Field(ge=1, description="how often both paths are repeated")] = 3,
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            OrderedDict((f"layer{index}", BiFPNLayer(in_channels, strides)) for index in range(repeats))
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return self.layers(maps)
