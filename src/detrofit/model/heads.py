"""The small networks that read boxes and scores out of a query, and the logit space that boxes are refined in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

PRIOR_SCORE = 0.01  # of every class before training, so that the many background queries start with a small loss
SMALLEST_PROBABILITY = 1e-5


def inverse_sigmoid(values: Tensor) -> Tensor:
    """Logits of `values`, which are first clamped to 0..1; 0 and 1 give finite logits (about -11.5 and 11.5)."""
    values = values.clamp(0.0, 1.0)
    return (values.clamp(min=SMALLEST_PROBABILITY) / (1 - values).clamp(min=SMALLEST_PROBABILITY)).log()


class MLP(nn.Module):
    """Linear layers of the given widths with a ReLU between them: `[..., widths[0]]` to `[..., widths[-1]]`."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self.layers
        for layer in hidden:
            x = functional.relu(layer(x), inplace=True)
        return last(x)


class BoxHead(MLP):
    """A query's change to its reference box, in logits `[...,4]`; it changes nothing before training."""

    def __init__(self, hidden_dim: int) -> None:
        super().__init__((hidden_dim, hidden_dim, hidden_dim, 4))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        last = self.layers[-1]
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]


class ScoreHead(nn.Linear):
    """Class logits `[..., num_classes]` of a query, low ones before training."""

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.constant_(self.bias, -math.log((1 - PRIOR_SCORE) / PRIOR_SCORE))


class PositionHead(MLP):
    """The position embedding `[...,hidden_dim]` of boxes cxcywh `[...,4]` in 0..1."""

    def __init__(self, hidden_dim: int) -> None:
        super().__init__((4, 2 * hidden_dim, hidden_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for layer in self.layers:
            nn.init.xavier_uniform_(layer.weight)  # type: ignore[arg-type]
