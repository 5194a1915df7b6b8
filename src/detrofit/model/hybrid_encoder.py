"""The hybrid encoder: projection of every level, attention on the last one, fusion of all (arXiv:2304.08069)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from detrofit.parts.layers import ConvNorm


class HybridEncoder(nn.Module):
    """A list of maps [B,C_i,H/s,W/s] for `strides` to a list of maps [B,hidden_dim,H/s,W/s].

    `attention` and `context` act on the last level in turn, `fusion` on all of them.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        hidden_dim: int,
        attention: nn.Module,
        context: nn.Module,
        fusion: nn.Module,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.input_projection = nn.ModuleDict(
            {f"stride{stride}": ConvNorm(channels, hidden_dim) for stride, channels in zip(strides, in_channels)}
        )
        self.attention = attention
        self.context = context
        self.fusion = fusion

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        projected = [self.input_projection[f"stride{stride}"](level) for stride, level in zip(self.strides, maps)]
        projected[-1] = self.context(self.attention(projected[-1]))
        return self.fusion(projected)
