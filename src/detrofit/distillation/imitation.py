"""How far a part's output is from the one that it imitates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from detrofit.parts.boxes import full_precision

LEAST_VARIANCE = 0.01  # of a channel, as a share of the channels' mean: a nearly constant one must not count most

Maps = Tensor | Sequence["Maps"]


def imitation_error(output: Maps, target: Maps, weights: Tensor | None = None) -> Tensor:
    """The squared error over each channel's own variance in the target, averaged over channels, in float32.

    0 where they are equal, 1 where the output is each channel's mean: the share of the variance that is not
    explained. After DNA (arXiv:1911.13053), which normalises so that no channel counts for its scale.

    Args:
        output, target: maps [B,C,H,W], or lists of such, over which the mean is taken.
        weights: [B,1,h,w] of mean 1, how much places count; resized to each map.
    """
    if isinstance(target, Tensor):
        assert isinstance(output, Tensor)
        return _map_error(full_precision(output), full_precision(target), weights)
    return torch.stack([imitation_error(*pair, weights) for pair in zip(output, target)]).mean()


def _map_error(output: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
    dims = (0, *range(2, target.ndim))
    variance = target.var(dims, unbiased=False)
    variance = variance + LEAST_VARIANCE * variance.mean() + torch.finfo(variance.dtype).tiny
    error = (output - target).square()
    if weights is not None:
        error = error * torch.nn.functional.adaptive_avg_pool2d(weights, (target.shape[-2], target.shape[-1]))
    return (error.mean(dims) / variance).mean()


def box_weights(targets: Sequence[dict[str, Tensor]], size: tuple[int, int], inside: float) -> Tensor:
    """Weights float32 [B,1,H,W] of mean 1, `inside` times as large in cells that a target box touches as elsewhere.

    `targets` have `boxes` [n,4] cxcywh in 0..1.
    """
    height, width = size
    weights = torch.ones(len(targets), 1, height, width)
    for row, target in zip(weights, targets):
        for x, y, w, h in target["boxes"].tolist():
            left, right = int((x - w / 2) * width), int(-(-(x + w / 2) * width // 1))
            top, bottom = int((y - h / 2) * height), int(-(-(y + h / 2) * height // 1))
            row[:, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = inside
    return weights / weights.mean()
