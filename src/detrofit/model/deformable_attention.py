"""Multi-scale deformable attention: each query reads a few points near its box (arXiv:2010.04159, arXiv:2407.17140)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from detrofit.model.weighted_rows import eager_on_cpu, weighted_rows
from detrofit.parts.boxes import full_precision

Shapes = Sequence[tuple[int, int]]
Sampling = Literal["bilinear", "discrete"]


class DeformableAttention(nn.Module):
    """Reads, for each query and head, points around the query's reference box from every level and averages them.

    A point lies at the box's centre plus offset / (points of its level) * half the box's size. Softmax weights run
    over all levels' points together.

    Args:
        embed_dim: D, a multiple of `num_heads`.
        num_levels: how many maps are read.
        num_points: points of a head, the same for each level or one number for each.
        sampling: bilinear between cells (zeros beyond the map), or the nearest cell, whose offsets then cannot be
            trained and stay frozen.
    """

    offset_scale: Tensor

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        num_levels: int,
        num_points: int | Sequence[int] = 4,
        sampling: Sampling = "bilinear",
    ) -> None:
        super().__init__()
        points = [num_points] * num_levels if isinstance(num_points, int) else list(num_points)
        self.num_heads, self.points, self.sampling = num_heads, points, sampling
        self.sampling_offsets = nn.Linear(embed_dim, num_heads * sum(points) * 2)
        self.attention_weights = nn.Linear(embed_dim, num_heads * sum(points))
        self.value_projection = nn.Linear(embed_dim, embed_dim)
        self.output_projection = nn.Linear(embed_dim, embed_dim)
        scale = torch.tensor([0.5 / count for count in points for _ in range(count)])
        self.register_buffer("offset_scale", scale.unsqueeze(1), persistent=False)
        self.reset_parameters()
        if sampling == "discrete":
            self.sampling_offsets.requires_grad_(False)

    def reset_parameters(self) -> None:
        """Offsets on a ring, a direction for each head, farther for each next point of a level; equal weights."""
        nn.init.zeros_(self.sampling_offsets.weight)
        angle = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        direction = torch.stack((angle.cos(), angle.sin()), dim=-1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        distance = torch.cat([torch.arange(1, count + 1) for count in self.points])
        with torch.no_grad():
            self.sampling_offsets.bias.copy_((direction[:, None] * distance[:, None]).flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value_projection, self.output_projection):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(self, query: Tensor, reference: Tensor, memory: Tensor, shapes: Shapes) -> Tensor:
        """Attend.

        Args:
            query: `[B,Q,D]`.
            reference: boxes cxcywh `[B,Q,4]` in 0..1.
            memory: the maps' cells `[B,N,D]`, levels one after the other, row by row.
            shapes: (height, width) of each level.

        Returns:
            `[B,Q,D]`.
        """
        value = self.value_projection(memory)
        locations, weights = self.read_points(query, reference)
        read = self._sample(value, locations, weights, shapes)
        return self.output_projection(read.to(self.output_projection.weight.dtype))

    def read_points(self, query: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Where each query reads, x and y `[B,Q,H,P,2]` in 0..1, levels one after the other in P, and how much of it
        counts, `[B,Q,H,P]`, which sums to 1 over P."""
        heads = (self.num_heads, sum(self.points))
        offsets = full_precision(self.sampling_offsets(query)).unflatten(2, (*heads, 2))
        weights = _softmax(full_precision(self.attention_weights(query)).unflatten(2, heads))
        reference = full_precision(reference)[:, :, None, None]
        return reference[..., :2] + offsets * (self.offset_scale * reference[..., 2:]), weights

    def split_heads(self, value: Tensor) -> Tensor:
        """`[B,N,D]` as `[B,N,H,D/H]`."""
        return value.unflatten(2, (self.num_heads, -1))

    def _sample(self, value: Tensor, locations: Tensor, weights: Tensor, shapes: Shapes) -> Tensor:
        value = self.split_heads(value)
        if self.sampling == "discrete":
            return weighted_rows(value, nearest_cells(locations, shapes, self.points), weights)
        if eager_on_cpu(value):
            return weighted_rows(value, *surrounding_cells(locations, weights, shapes, self.points))
        return sample_on_grid(value, locations, weights, shapes, self.points)


def _softmax(logits: Tensor) -> Tensor:
    """Softmax over the last dimension of `[B,Q,H,P]`, which torch does slowly on a CPU for few neighbouring numbers."""
    if eager_on_cpu(logits):
        return logits.permute(3, 0, 1, 2).contiguous().softmax(0).permute(1, 2, 3, 0)
    return logits.softmax(-1)


def sample_on_grid(value: Tensor, locations: Tensor, weights: Tensor, shapes: Shapes, points: Sequence[int]) -> Tensor:
    """Weighted bilinear samples `[B,Q,H*C]` of `value` `[B,N,H,C]` by torch's grid sampling.

    Args:
        locations: x and y `[B,Q,H,P,2]` in 0..1 of the whole map, levels one after the other in P.
        weights: `[B,Q,H,P]`.
        shapes: (height, width) of each level.
        points: of each level.
    """
    levels = value.flatten(2).split([height * width for height, width in shapes], dim=1)
    maps = [level.unflatten(1, shape).permute(0, 3, 1, 2) for level, shape in zip(levels, shapes)]
    return sample_maps(maps, locations, weights, points)


def sample_maps(maps: Sequence[Tensor], locations: Tensor, weights: Tensor, points: Sequence[int]) -> Tensor:
    """`sample_on_grid` of each level's map `[B,H*C,height,width]`."""
    # grid_sample takes positions in the type of the values, and half precision is too coarse for positions. Queries
    # come last, since that is what runtimes do fastest.
    heads = int(weights.shape[2])  # traced sizes are tensors
    grids = (2 * locations - 1).permute(0, 2, 3, 1, 4).flatten(0, 1).split(list(points), dim=1)
    samples = [
        functional.grid_sample(full_precision(level).unflatten(1, (heads, -1)).flatten(0, 1), grid, align_corners=False)
        for level, grid in zip(maps, grids)
    ]
    weighted = torch.cat(samples, dim=2) * weights.permute(0, 2, 3, 1).flatten(0, 1).unsqueeze(1)
    return weighted.sum(2).unflatten(0, (-1, heads)).flatten(1, 2).transpose(1, 2)


def surrounding_cells(
    locations: Tensor, weights: Tensor, shapes: Shapes, points: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """The four cells around each location and their weights: `weighted_rows` of them is `sample_on_grid`.

    Returns:
        cells int32 and weights, `[B,Q,H,4*P]`. Cells beyond the map have weight 0.
    """
    sizes, starts = _level_of_points(shapes, points, locations.device)
    # Element-wise operations are fast on long rows, so x and y are kept apart.
    (x, y), (widths, heights) = locations.split(1, dim=-1), sizes.split(1, dim=-1)
    columns, x_weights = _neighbours(x, widths)
    rows, y_weights = _neighbours(y, heights)
    cells = [row * widths.int() + starts.unsqueeze(1) + column for row in rows for column in columns]
    shares = [weights.unsqueeze(-1) * share for share in y_weights]
    corners = [down * across for down in shares for across in x_weights]
    return torch.cat(cells, dim=3).flatten(3), torch.cat(corners, dim=3).flatten(3)


def _neighbours(location: Tensor, size: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Along one axis of maps of `size` cells: the cell before and after each location, and how much of each counts."""
    position = location * size - 0.5
    low = position.detach().floor()
    fraction = position - low
    # Integers are clamped, not the positions: a position that is not a number must not become an address.
    before = low.int()
    after, last = before + 1, size.int() - 1
    inside = before.clamp(min=0).minimum(last), after.clamp(min=0).minimum(last)
    near = torch.where(before == inside[0], 1 - fraction, 0.0)
    return inside, (near, torch.where(after == inside[1], fraction, 0.0))


def nearest_cells(locations: Tensor, shapes: Shapes, points: Sequence[int]) -> Tensor:
    """The cell that discrete sampling reads for each location `[B,Q,H,P,2]`: int32 `[B,Q,H,P]`.

    As published: a position is rounded half a cell too far, and both axes end at the map's height, which on maps
    wider than high leaves the right part unread. On maps higher than wide x ends at the width.
    """
    sizes, starts = _level_of_points(shapes, points, locations.device)
    height = sizes[:, 1:]
    last = torch.minimum(sizes, height).int() - 1
    cell = (locations * sizes + 0.5).int().clamp(min=0).minimum(last)
    x, y = cell.unbind(-1)
    return y * sizes[:, 0].int() + x + starts


def _level_of_points(shapes: Shapes, points: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """For each point its level's (width, height) float `[P,2]`, and the level's first cell, int32 `[P]`."""
    sizes, starts, start = [], [], 0
    for (height, width), count in zip(shapes, points):
        sizes += [(float(width), float(height))] * count
        starts += [start] * count
        start = start + height * width  # not in place: a traced size is a tensor, and the list would hold it
    return torch.tensor(sizes, device=device), torch.tensor(starts, dtype=torch.int32, device=device)
