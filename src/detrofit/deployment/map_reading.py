"""The decoder as it is exported: it reads the encoder's maps level by level instead of one list of all their cells.

The numbers are the same. But points of a map are sampled without turning it first, and where a projection to the
decoder's width and the layers that read it are linear, one convolution does for both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from detrofit.model.decoder import Decoder, as_tokens, sizes_of
from detrofit.model.deformable_attention import DeformableAttention, Shapes, sample_maps, surrounding_cells
from detrofit.model.query_selection import QuerySelection
from detrofit.model.weighted_rows import weighted_rows
from detrofit.parts.layers import ConvNorm

Sampler = Literal["grid", "gather"]
PICKED_ROW = 16  # numbers of a row that OpenVINO picks one by one, at the most


def openvino_sampler(decoder: Decoder) -> Sampler:
    """What OpenVINO does faster: it copies rows of a table where they are long, and picks short ones number by number
    (2026.4, on processors with AVX-512)."""
    layer: Any = decoder.layer0
    row = layer.cross_attention.value_projection.out_features // layer.cross_attention.num_heads
    return "gather" if row > PICKED_ROW else "grid"


@torch.no_grad()
def read_maps(decoder: Decoder, sampler: Sampler) -> None:
    """Have a fused decoder, in place, read maps. It cannot be trained any more.

    Args:
        sampler: grid reads between cells by torch's grid sampling, gather by picking the four cells around each point.
    """
    layers = [getattr(decoder, f"layer{index}") for index in range(decoder.eval_layers)]
    folded: dict[str, nn.Conv2d | None] = {}
    for name, projection in decoder.input_projection.items():
        assert isinstance(projection, ConvNorm)
        folded[name] = projection.conv if _saves_work(projection.conv, readers=1 + len(layers)) else None
        if folded[name] is not None:
            decoder.input_projection[name] = nn.Identity()
    selection: Any = decoder.query_selection
    selection.projection = _MapProjection(selection.projection, folded, bias=False)
    selection.__class__ = _MapSelection
    for layer in layers:
        attention = layer.cross_attention
        attention.value_projection = _MapProjection(attention.value_projection, folded)
        attention.sampler, attention.__class__ = sampler, _MapAttention
    decoder.__class__ = _MapDecoder


def _saves_work(projection: nn.Conv2d, readers: int) -> bool:
    """Whether `readers` linear layers multiply less on what a projection reads than on what it makes."""
    before, after = projection.in_channels, projection.out_channels
    return projection.kernel_size == (1, 1) and before * readers <= before + after * readers


class _MapProjection(nn.ModuleDict):
    """A linear layer of tokens as a 1x1 convolution of each level's map, or of what its folded projection reads."""

    def __init__(self, linear: nn.Linear, folded: Mapping[str, nn.Conv2d | None], *, bias: bool = True) -> None:
        super().__init__()
        self.bias = linear.bias  # for who masks what `linear` reads
        for name, projection in folded.items():
            self[name] = _convolution(linear, projection, bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return [convolution(level) for convolution, level in zip(self.values(), maps, strict=True)]


def _convolution(linear: nn.Linear, projection: nn.Conv2d | None, with_bias: bool) -> nn.Conv2d:
    """`linear` after `projection`, computed in float64."""
    weight = linear.weight.double()
    bias = linear.bias.double() if with_bias else torch.zeros_like(linear.bias, dtype=torch.float64)
    if projection is not None:
        assert projection.bias is not None, "a fused projection has one"
        bias = bias + weight @ projection.bias.double()
        weight = weight @ projection.weight.double().flatten(1)
    convolution = nn.Conv2d(weight.shape[1], weight.shape[0], 1).to(linear.weight)
    convolution.weight.copy_(weight[:, :, None, None])
    convolution.bias.copy_(bias)  # type: ignore[union-attr]
    return convolution


# What these hand on in place of tokens `[B,N,D]` are maps, one a level: no caller of the graph sees that.


class _MapDecoder(Decoder):
    def tokens(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[tuple[int, int]]]:  # type: ignore[override]
        levels = self.levels(features)
        return levels, sizes_of(levels)


class _MapSelection(QuerySelection):
    projection: _MapProjection  # type: ignore[assignment]

    def features(self, memory: Sequence[Tensor], valid: Tensor) -> Tensor:  # type: ignore[override]
        return self.norm(as_tokens(self.projection(memory)) * valid + self.projection.bias)


class _MapAttention(DeformableAttention):
    sampler: Sampler

    def _sample(  # type: ignore[override]
        self, value: Sequence[Tensor], locations: Tensor, weights: Tensor, shapes: Shapes
    ) -> Tensor:
        if self.sampling == "discrete":
            return super()._sample(as_tokens(value), locations, weights, shapes)
        if self.sampler == "grid":
            return sample_maps(value, locations, weights, self.points)
        cells, shares = surrounding_cells(locations, weights, shapes, self.points)
        return weighted_rows(self.split_heads(as_tokens(value)), cells, shares)
