"""`ccfm`: the stock fusion of RT-DETR's neck (arXiv:2304.08069)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from detrofit.parts.assembly import SlotFiller
from detrofit.parts.layers import Activation, ConvNorm, activation_module
from detrofit.parts.registry import part
from detrofit.parts.slots import ENCODER_DOWNSAMPLE, ENCODER_FUSION, FUSION_BLOCK


@part(
    "ccfm",
    fits=[ENCODER_FUSION],
    paper="arXiv:2304.08069",
    licence="Apache-2.0 original (RT-DETR)",
    slots=[FUSION_BLOCK, ENCODER_DOWNSAMPLE],
)
class CCFM(nn.Module):
    """CNN-based cross-scale feature fusion: a top-down path, then a bottom-up path, concatenating at every level.

    A list of maps [B,C,H/s,W/s] for `strides`, each twice the one before, to a list of the same shapes. Top-down:
    l_i = conv1x1(t_i), t_i-1 = block(cat(up(l_i), x_i-1)), the coarsest t being x. Bottom-up: out_0 = t_0,
    out_i = block(cat(down(out_i-1), l_i)): both paths meet the 1x1 outputs, as published. `activation` is that of the
    1x1 and of the downsamples. Modules are named by the stride that they give.
    """

    def __init__(
        self, slots: SlotFiller, in_channels: int, strides: Sequence[int], *, activation: Activation = "silu"
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.lateral = nn.ModuleDict()
        self.top_down = nn.ModuleDict()
        self.downsample = nn.ModuleDict()
        self.bottom_up = nn.ModuleDict()
        self.activation = activation_module(activation)
        for index, (fine, coarse) in enumerate(reversed(list(pairwise(strides)))):
            self.lateral[f"stride{coarse}"] = ConvNorm(in_channels, in_channels, activation=activation)
            self.top_down[f"stride{fine}"] = _block(slots, in_channels, index)
        for index, coarse in enumerate(strides[1:]):
            self.downsample[f"stride{coarse}"] = slots.fill(
                ENCODER_DOWNSAMPLE, default="conv-s2", index=index, in_channels=in_channels, out_channels=in_channels
            )
            self.bottom_up[f"stride{coarse}"] = _block(slots, in_channels, len(strides) - 1 + index)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        inner = list(maps)
        for level in range(len(maps) - 1, 0, -1):
            fine, coarse = self.strides[level - 1], self.strides[level]
            inner[level] = self.lateral[f"stride{coarse}"](inner[level])
            raised = functional.interpolate(inner[level], size=maps[level - 1].shape[-2:], mode="nearest")
            inner[level - 1] = self.top_down[f"stride{fine}"](torch.cat([raised, maps[level - 1]], dim=1))
        outputs = [inner[0]]
        for level, stride in enumerate(self.strides[1:], start=1):
            lowered = self.activation(self.downsample[f"stride{stride}"](outputs[-1]))
            outputs.append(self.bottom_up[f"stride{stride}"](torch.cat([lowered, inner[level]], dim=1)))
        return outputs


def _block(slots: SlotFiller, channels: int, index: int) -> nn.Module:
    return slots.fill(FUSION_BLOCK, default="csp-rep", index=index, in_channels=2 * channels, out_channels=channels)
