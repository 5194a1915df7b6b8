"""The decoder: selected queries read the maps and refine their boxes layer by layer (arXiv:2304.08069)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from detrofit.model.deformable_attention import DeformableAttention, Sampling
from detrofit.model.denoising import Denoising, DenoisingQueries
from detrofit.model.heads import BoxHead, PositionHead, ScoreHead, inverse_sigmoid
from detrofit.model.output import DetectorOutput, Prediction
from detrofit.model.query_selection import QuerySelection, SelectionMethod, make_anchors
from detrofit.parts.boxes import full_precision
from detrofit.parts.layers import ConvNorm, activation_module, attention


class SelfAttention(nn.Module):
    """Multi-head attention among queries; its position embedding joins query and key, not the value."""

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * embed_dim, embed_dim))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * embed_dim))
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.in_proj_bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, position: Tensor, visible: Tensor | None = None) -> Tensor:
        """Attend among `x` `[B,Q,D]` with `position` `[B,Q,D]`.

        `visible` bool `[N,Q]`: which of all the first N may see; the others then see each other alone.
        """
        width = x.shape[-1]
        query_key = functional.linear(x + position, self.in_proj_weight[: 2 * width], self.in_proj_bias[: 2 * width])
        value = functional.linear(x, self.in_proj_weight[2 * width :], self.in_proj_bias[2 * width :])
        query, key, value = (self._heads(part) for part in (*query_key.chunk(2, dim=-1), value))
        if visible is None:
            mixed = attention(query, key, value)
        else:
            first = len(visible)
            seeing_some = attention(query[:, :, :first], key, value, visible)
            rest = attention(query[:, :, first:], key[:, :, first:], value[:, :, first:])
            mixed = torch.cat((seeing_some, rest), dim=2)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


class DecoderLayer(nn.Module):
    """Self-attention among queries, deformable attention to the maps, feed-forward; a norm after each."""

    def __init__(
        self, hidden_dim: int, num_heads: int, feedforward_dim: int, cross_attention: nn.Module, activation: str
    ) -> None:
        super().__init__()
        self.self_attention = SelfAttention(hidden_dim, num_heads)
        self.norm1 = nn.LayerNorm(hidden_dim)
        self.cross_attention = cross_attention
        self.norm2 = nn.LayerNorm(hidden_dim)
        self.linear1 = nn.Linear(hidden_dim, feedforward_dim)
        self.activation = activation_module(activation)
        self.linear2 = nn.Linear(feedforward_dim, hidden_dim)
        self.norm3 = nn.LayerNorm(hidden_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.linear1.weight)
        nn.init.xavier_uniform_(self.linear2.weight)

    def forward(
        self,
        query: Tensor,
        position: Tensor,
        reference: Tensor,
        memory: Tensor,
        shapes: Sequence[tuple[int, int]],
        visible: Tensor | None,
    ) -> Tensor:
        """Update `query` `[B,Q,D]`, whose boxes are `reference` cxcywh `[B,Q,4]` in 0..1, from `memory` `[B,N,D]`."""
        query = self.norm1(query + self.self_attention(query, position, visible))
        query = self.norm2(query + self.cross_attention(query + position, reference, memory, shapes))
        update = self.linear2(self.activation(self.linear1(query)))
        query = query + update
        if update.dtype == torch.float16:  # which may overflow, whatever the norms before it work in
            largest = torch.finfo(update.dtype).max
            query = query.clamp(-largest, largest)
        return self.norm3(query)


class Decoder(nn.Module):
    """From the encoder's maps to predictions: projections, query selection, decoder layers, heads.

    Args:
        in_channels: of each map given, in the order of `strides`.
        strides: of the levels. Those beyond the maps given are made from the last one by convolutions of stride 2.
        num_classes: of the detector.
        hidden_dim: width D of a query.
        num_queries: how many boxes are predicted, or all cells where there are fewer.
        num_layers: decoder layers that are trained.
        eval_layers: of these, how many run outside training (default: all).
        num_points: see `DeformableAttention`, as for `sampling`.
        selection, learnt_content: see `QuerySelection`.
        num_denoising, label_noise, box_noise: see `Denoising`; 0 denoising queries for none.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        *,
        hidden_dim: int = 256,
        num_queries: int = 300,
        num_layers: int = 3,
        eval_layers: int | None = None,
        num_heads: int = 8,
        feedforward_dim: int = 1024,
        activation: str = "relu",
        num_points: int | Sequence[int] = 4,
        sampling: Sampling = "bilinear",
        selection: SelectionMethod = "default",
        learnt_content: bool = False,
        num_denoising: int = 100,
        label_noise: float = 0.5,
        box_noise: float = 1.0,
    ) -> None:
        super().__init__()
        self.strides, self.num_layers, self.eval_layers = tuple(strides), num_layers, eval_layers or num_layers
        self.input_projection = nn.ModuleDict(_input_projections(in_channels, strides, hidden_dim))
        self.query_selection = QuerySelection(hidden_dim, num_classes, num_queries, selection, learnt_content)
        for index in range(num_layers):
            attention = DeformableAttention(hidden_dim, num_heads, len(strides), num_points, sampling)
            layer = DecoderLayer(hidden_dim, num_heads, feedforward_dim, attention, activation)
            self.add_module(f"layer{index}", layer)
        names = [f"layer{index}" for index in range(num_layers)]
        self.score_head = nn.ModuleDict({name: ScoreHead(hidden_dim, num_classes) for name in names})
        self.box_head = nn.ModuleDict({name: BoxHead(hidden_dim) for name in names})
        self.query_position = PositionHead(hidden_dim)
        self.denoising: Denoising | None = None
        if num_denoising:
            self.denoising = Denoising(num_classes, hidden_dim, num_denoising, label_noise, box_noise)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for projection in self.input_projection.values():
            nn.init.xavier_uniform_(projection.conv.weight)  # type: ignore[union-attr, arg-type]

    def forward(
        self,
        features: Sequence[Tensor],
        targets: Sequence[Mapping[str, Tensor]] | None = None,
        *,
        max_boxes: int | None = None,
        generators: Sequence[Generator] | None = None,
    ) -> DetectorOutput:
        """Predict from maps `[B,C,H,W]`, one for each of `in_channels`.

        In training with `targets` there are denoising queries too; for the other arguments see `Denoising`.
        """
        memory, shapes = self.tokens(features)
        selected = self.query_selection(memory, *make_anchors(shapes, self.strides, features[0]))
        noisy = self._denoising_queries(targets, selected.content.shape[1], max_boxes, generators)
        content, reference, visible, split = selected.content, selected.reference, None, 0
        if noisy is not None:
            split, visible = noisy.layout.num_queries, noisy.visible
            content = torch.cat((noisy.content.to(content.dtype), content), dim=1)
            reference = torch.cat((noisy.reference.to(reference.dtype), reference), dim=1)
        layers = list(self._refine(content, reference.sigmoid(), memory, shapes, visible))
        *auxiliary, last = (Prediction(*(part[:, split:] for part in layer)) for layer in layers)
        return DetectorOutput(
            prediction=last,
            auxiliary=auxiliary,
            encoder=[selected.prediction] if self.training else [],
            denoising=[Prediction(*(part[:, :split] for part in layer)) for layer in layers] if noisy else [],
            denoising_layout=noisy.layout if noisy else None,
            selected=selected.tokens,
        )

    def tokens(self, features: Sequence[Tensor]) -> tuple[Tensor, list[tuple[int, int]]]:
        """All levels' cells `[B,N,D]`, one level after the other, row by row, and each level's (height, width)."""
        levels = self.levels(features)
        return as_tokens(levels), sizes_of(levels)

    def levels(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The map `[B,D,H,W]` of each stride that is read."""
        levels: list[Tensor] = []
        for index, projection in enumerate(self.input_projection.values()):
            if index < len(features):
                levels.append(projection(features[index]))
            else:
                levels.append(projection(features[-1] if index == len(features) else levels[-1]))
        return levels

    def _denoising_queries(
        self,
        targets: Sequence[Mapping[str, Tensor]] | None,
        num_matching: int,
        max_boxes: int | None,
        generators: Sequence[Generator] | None,
    ) -> DenoisingQueries | None:
        if not self.training or targets is None or self.denoising is None:
            return None
        return self.denoising(targets, num_matching, max_boxes=max_boxes, generators=generators)

    def _refine(
        self,
        query: Tensor,
        reference: Tensor,
        memory: Tensor,
        shapes: Sequence[tuple[int, int]],
        visible: Tensor | None,
    ) -> Iterator[Prediction]:
        """The prediction of each layer in training, of the last one that runs otherwise.

        Layers read detached boxes, but the boxes that training sees carry the gradient of one layer more.
        """
        count = self.num_layers if self.training else self.eval_layers
        previous = reference
        for index in range(count):
            name = f"layer{index}"
            query = getattr(self, name)(
                query, self.query_position(reference.to(query.dtype)), reference, memory, shapes, visible
            )
            delta = full_precision(self.box_head[name](query))
            boxes = (delta + inverse_sigmoid(reference)).sigmoid()
            if self.training:
                returned = boxes if index == 0 else (delta + inverse_sigmoid(previous)).sigmoid()
                yield Prediction(self.score_head[name](query), returned)
            elif index == count - 1:
                yield Prediction(self.score_head[name](query), boxes)
            previous, reference = boxes, boxes.detach()


def as_tokens(levels: Sequence[Tensor]) -> Tensor:
    """The cells `[B,N,D]` of maps `[B,D,H,W]`, one map after the other, row by row."""
    return torch.cat([level.permute(0, 2, 3, 1).flatten(1, 2) for level in levels], dim=1)


def sizes_of(levels: Sequence[Tensor]) -> list[tuple[int, int]]:
    """Height and width of each map."""
    return [(int(level.shape[2]), int(level.shape[3])) for level in levels]  # traced sizes are tensors


def _input_projections(in_channels: Sequence[int], strides: Sequence[int], hidden_dim: int) -> dict[str, ConvNorm]:
    """A 1x1 convolution for each map, then 3x3 ones of stride 2 for the strides beyond them."""
    projections = {f"stride{stride}": ConvNorm(channels, hidden_dim) for channels, stride in zip(in_channels, strides)}
    previous = in_channels[-1]
    for stride in strides[len(in_channels) :]:
        projections[f"stride{stride}"] = ConvNorm(previous, hidden_dim, kernel_size=3, stride=2)
        previous = hidden_dim
    return projections
