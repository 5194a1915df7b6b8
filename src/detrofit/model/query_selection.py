"""Which encoder tokens become the decoder's first queries (arXiv:2304.08069, section 4.3)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from detrofit.model.heads import BoxHead, ScoreHead
from detrofit.model.output import Prediction
from detrofit.parts.boxes import full_precision

SelectionMethod = Literal["default", "one2many", "agnostic"]

ANCHOR_SIZE_AT_STRIDE_8 = 0.05  # of the image
ANCHOR_MARGIN = 0.01  # anchors closer to 0 or 1 than this, or larger, are not selected on their merits


class SelectedQueries(NamedTuple):
    """The selected tokens, best first.

    Attributes:
        content: `[B,Q,D]`, detached, or learnt.
        reference: boxes in logits `[B,Q,4]`, detached.
        prediction: the encoder's own logits and boxes of these tokens.
        tokens: int64 `[B,Q]`, where they come from.
    """

    content: Tensor
    reference: Tensor
    prediction: Prediction
    tokens: Tensor


class QuerySelection(nn.Module):
    """Takes the highest-scoring encoder tokens as queries, with a box each, refined from the anchor of their place.

    Args:
        num_classes: of the detector.
        num_queries: how many are taken (all tokens where there are fewer).
        method: default: the highest class score of a token decides. one2many: pairs of a token and a class compete,
            so that a token may come several times. agnostic: the head has one logit, for any object (arXiv:2407.17140).
        learnt_content: the tokens give the boxes alone; what a query starts with is learnt, the same for every image.
    """

    def __init__(
        self,
        hidden_dim: int,
        num_classes: int,
        num_queries: int = 300,
        method: SelectionMethod = "default",
        learnt_content: bool = False,
    ) -> None:
        super().__init__()
        self.num_queries, self.method = num_queries, method
        self.projection = nn.Linear(hidden_dim, hidden_dim)
        self.norm = nn.LayerNorm(hidden_dim)
        self.score_head = ScoreHead(hidden_dim, 1 if method == "agnostic" else num_classes)
        self.box_head = BoxHead(hidden_dim)
        self.learnt_content = nn.Embedding(num_queries, hidden_dim) if learnt_content else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.projection.weight)
        if self.learnt_content is not None:
            nn.init.xavier_uniform_(self.learnt_content.weight)

    def forward(self, memory: Tensor, anchors: Tensor, valid: Tensor) -> SelectedQueries:
        """Select among `memory` `[B,N,D]`, whose places have `anchors` `[N,4]` in logits and are `valid` `[N,1]`."""
        with torch.no_grad():
            features = self.features(memory, valid)
            tokens = self.select(self.score_head(features))
        content = self._with_gradient(memory, valid, tokens) if torch.is_grad_enabled() else _rows(features, tokens)
        reference = full_precision(self.box_head(content)) + anchors[tokens]
        prediction = Prediction(self.score_head(content), reference.sigmoid())
        return SelectedQueries(self._first_content(content), reference.detach(), prediction, tokens)

    def _with_gradient(self, memory: Tensor, valid: Tensor, tokens: Tensor) -> Tensor:
        """The features `[B,Q,D]` of the selected tokens, computed again with a gradient.

        Every token is computed by itself, and going back through all of them gives the same for many times the work.
        """
        if self.training and torch.is_autocast_enabled(memory.device.type):
            # Older versions of torch keep weights that they have cast without a gradient and use them again here, where
            # they would then get none (https://github.com/pytorch/pytorch/issues/112583).
            torch.clear_autocast_cache()
        return self.features(_rows(memory, tokens), valid[tokens])

    def _first_content(self, features: Tensor) -> Tensor:
        """What the decoder starts with in place of the selected tokens' `features` `[B,Q,D]`."""
        if self.learnt_content is None:
            return features.detach()
        return self.learnt_content.weight[: features.shape[1]].expand_as(features)

    def features(self, memory: Tensor, valid: Tensor) -> Tensor:
        """What the heads read, `[B,N,D]`; tokens without a valid anchor are zeroed first."""
        return self.norm(self.projection(memory * valid))

    def select(self, logits: Tensor) -> Tensor:
        """Tokens int64 `[B,Q]` with the highest of `logits` `[B,N,C]`, best first."""
        count = min(self.num_queries, logits.shape[1])
        if self.method == "one2many":
            return logits.flatten(1).topk(count, dim=1).indices // logits.shape[-1]
        return logits.amax(-1).topk(count, dim=1).indices


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """Rows `index` `[B,Q]` of `values` `[B,N,D]`: `[B,Q,D]`."""
    return values.gather(1, index.unsqueeze(-1).expand(-1, -1, values.shape[-1]))


def make_anchors(shapes: Sequence[tuple[int, int]], strides: Sequence[int], like: Tensor) -> tuple[Tensor, Tensor]:
    """An anchor for each cell of maps of `shapes` (height, width), levels one after the other, row by row.

    The anchor is a square at the cell's centre, 0.05 * stride / 8 of the image wide and high.

    Args:
        like: gives the device, and float64 where it is of that type.

    Returns:
        boxes cxcywh in logits `[N,4]`, at least float32, infinite where not valid; valid `[N,1]` in the type of `like`.
    """
    # What torch.export and the like trace with must not outlive them in the cache.
    build = _cached_anchors if type(like) is Tensor else _build_anchors
    dtype = torch.promote_types(like.dtype, torch.float32)
    anchors, valid = build(tuple(shapes), tuple(strides), dtype, like.device)
    return anchors, valid.to(like.dtype)


def _build_anchors(
    shapes: tuple[tuple[int, int], ...], strides: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    levels = []
    for (height, width), stride in zip(shapes, strides):
        x = (torch.arange(width, dtype=dtype, device=device) + 0.5) / width
        y = (torch.arange(height, dtype=dtype, device=device) + 0.5) / height
        size = torch.full((1, 1), ANCHOR_SIZE_AT_STRIDE_8 * stride / 8, dtype=dtype, device=device)
        grid = (x.expand(height, width), y[:, None].expand(height, width), size.expand(height, width))
        levels.append(torch.stack((*grid, grid[-1]), dim=-1).flatten(0, 1))
    anchors = torch.cat(levels)
    valid = ((anchors > ANCHOR_MARGIN) & (anchors < 1 - ANCHOR_MARGIN)).all(-1, keepdim=True)
    logits = (anchors / (1 - anchors)).log()
    return torch.where(valid, logits, torch.inf), valid


@lru_cache(maxsize=64)
def _cached_anchors(
    shapes: tuple[tuple[int, int], ...], strides: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False), torch.no_grad():
        return _build_anchors(shapes, strides, dtype, device)
