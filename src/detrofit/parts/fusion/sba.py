"""`sba`: selective boundary aggregation of DuAT between the levels of the neck (arXiv:2212.11677)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from detrofit.parts.assembly import SlotFiller
from detrofit.parts.layers import ConvNorm, activation_module
from detrofit.parts.registry import part
from detrofit.parts.slots import ENCODER_DOWNSAMPLE, ENCODER_FUSION


class BoundaryAggregation(nn.Module):
    """The original module: a deep map and a shallow one, [B,C,h,w] and [B,C,H,W], to [B,C,H,W]; C must be even.

    Both are narrowed to C/2 by a plain 1x1, s and d. With gates g = sigmoid of them and s, d after a further 1x1 with
    norm and ReLU: s' = s + s g_s + (1 - g_s) resize(g_d d); then, with the new s', d' = d + d g_d + (1 - g_d)
    resize(g_s s'). The result is a 3x3 with norm and ReLU of cat(resize(d'), s'). Resizing is bilinear. The original's
    last 1x1 to one channel is left to the host.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.narrow_shallow = nn.Conv2d(channels, half, 1, bias=False)
        self.narrow_deep = nn.Conv2d(channels, half, 1, bias=False)
        self.mix_shallow = ConvNorm(half, half, activation="relu")
        self.mix_deep = ConvNorm(half, half, activation="relu")
        self.merge = ConvNorm(2 * half, channels, 3, activation="relu")

    def forward(self, deep: Tensor, shallow: Tensor) -> Tensor:
        return self.merge(self.aggregate(deep, shallow))

    def aggregate(self, deep: Tensor, shallow: Tensor) -> Tensor:
        """What `forward` merges: both refined halves, the deep one first."""
        deep, shallow = self.narrow_deep(deep), self.narrow_shallow(shallow)
        gate_deep, gate_shallow = deep.sigmoid(), shallow.sigmoid()
        deep, shallow = self.mix_deep(deep), self.mix_shallow(shallow)
        shallow = shallow + shallow * gate_shallow + (1 - gate_shallow) * _resized(gate_deep * deep, shallow)
        deep = deep + deep * gate_deep + (1 - gate_deep) * _resized(gate_shallow * shallow, deep)
        return torch.cat([_resized(deep, shallow), shallow], dim=1)


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


class ProjectedAggregation(nn.Module):
    """Boundary aggregation with its last 1x1, here to the width of the neck instead of one channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.aggregation = BoundaryAggregation(channels)
        self.projection = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, deep: Tensor, shallow: Tensor) -> Tensor:
        return self.projection(self.aggregation(deep, shallow))


@part(
    "sba",
    fits=[ENCODER_FUSION],
    paper="arXiv:2212.11677",
    licence="original code (DuAT) without a licence file; written from the paper",
    channel_multiple=2,
    slots=[ENCODER_DOWNSAMPLE],
)
class SelectiveBoundaryAggregation(nn.Module):
    """Selective boundary aggregation between neighbouring levels: deep and shallow maps gate what each takes over.

    A list of maps [B,C,H/s,W/s] for `strides`, each twice the one before, to a list of the same shapes; C must be
    even. The original module merges one deep and one shallow map at the shallow one's size, and ends in one channel;
    here its last 1x1 gives C channels, and a list is merged in two paths: top-down, t_i = sba(deep t_i+1, shallow
    x_i), the coarsest t being x; then bottom-up, out_0 = t_0 and out_i = sba(deep t_i, shallow down(out_i-1)) with the
    neck's downsample and SiLU. The two paths are ours: the paper's network has one pair.

    This is the original's module, with ReLU; the plug-in that circulates has SiLU and no last 1x1.
    """

    def __init__(self, slots: SlotFiller, in_channels: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.top_down = nn.ModuleDict()
        self.downsample = nn.ModuleDict()
        self.bottom_up = nn.ModuleDict()
        self.activation = activation_module("silu")
        for stride in reversed(strides[:-1]):
            self.top_down[f"stride{stride}"] = ProjectedAggregation(in_channels)
        for index, stride in enumerate(strides[1:]):
            self.downsample[f"stride{stride}"] = slots.fill(
                ENCODER_DOWNSAMPLE, default="conv-s2", index=index, in_channels=in_channels, out_channels=in_channels
            )
            self.bottom_up[f"stride{stride}"] = ProjectedAggregation(in_channels)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        inner = list(maps)
        for level, merge in zip(range(len(maps) - 2, -1, -1), self.top_down.values()):
            inner[level] = merge(inner[level + 1], inner[level])
        outputs = [inner[0]]
        for deep, downsample, merge in zip(inner[1:], self.downsample.values(), self.bottom_up.values()):
            outputs.append(merge(deep, self.activation(downsample(outputs[-1]))))
        return outputs
