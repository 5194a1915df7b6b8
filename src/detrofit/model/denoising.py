"""Queries made from the targets by noise, which training asks to reconstruct or reject (arXiv:2203.03605)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from detrofit.model.heads import inverse_sigmoid
from detrofit.model.output import DenoisingLayout
from detrofit.parts.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh

# Random numbers for a query: whether to change its class, to which, and a sign and a size for each corner coordinate.
DRAWS = 10


class DenoisingQueries(NamedTuple):
    """What goes in front of the decoder's own queries; N denoising queries, T with the decoder's own.

    Attributes:
        content: `[B,N,D]`.
        reference: boxes in logits `[B,N,4]`.
        visible: bool `[N,T]`, whether the query of the row may attend to that of the column; the decoder's own attend
            to each other alone, or the targets would leak.
        layout: which of them shall find which target.
    """

    content: Tensor
    reference: Tensor
    visible: Tensor
    layout: DenoisingLayout


class Denoising(nn.Module):
    """Contrastive denoising: noisy copies of the targets in groups, each of positives (close) and negatives (farther).

    The queries of an image are padded to 2 * groups * most boxes of an image. A batch without any box gets one group
    of two padding queries, so that the same parameters take part in every process's step.

    Args:
        num_queries: about how many noisy boxes; the number of groups is this over the most boxes of an image.
        label_noise: twice the probability that a query's class is drawn anew.
        box_noise: corners move by up to this times half the box's size (positives), or up to twice that (negatives).
    """

    def __init__(
        self,
        num_classes: int,
        hidden_dim: int,
        num_queries: int = 100,
        label_noise: float = 0.5,
        box_noise: float = 1.0,
    ) -> None:
        super().__init__()
        self.num_classes, self.num_queries = num_classes, num_queries
        self.label_noise, self.box_noise = label_noise, box_noise
        self.embedding = nn.Embedding(num_classes + 1, hidden_dim, padding_idx=num_classes)

    def forward(
        self,
        targets: Sequence[Mapping[str, Tensor]],
        num_matching: int,
        *,
        max_boxes: int | None = None,
        generators: Sequence[Generator] | None = None,
    ) -> DenoisingQueries:
        """Make the queries for a batch.

        Args:
            targets: a dict for each image with `labels` int64 [n] and `boxes` [n,4] cxcywh in 0..1, n may be 0.
            num_matching: the decoder's own queries.
            max_boxes: the most boxes of an image, at least that of `targets`; processes that share a step give the
                largest among them, so that they agree on the number of groups. Default: that of `targets`.
            generators: one on the CPU for each image; the first groups of an image get the same noise whatever the
                others of its batch hold. Default: torch's global generator.
        """
        counts = [len(target["labels"]) for target in targets]
        most = max(counts) if max_boxes is None else max_boxes
        groups = max(1, self.num_queries // most) if most else 1
        width = max(1, most)
        labels, boxes = self._padded(targets, width)
        noise = _draw(counts, groups, width, generators).to(boxes.device)
        content = self.embedding(self._noisy_labels(labels, noise[..., :2]).flatten(1))
        reference = self._noisy_boxes(boxes, noise[..., 2:]).flatten(1, 3)
        visible = visibility(groups, width, num_matching, boxes.device)
        layout = DenoisingLayout(groups, 2 * groups * width, positive_queries(counts, groups, width))
        return DenoisingQueries(content, reference, visible, layout)

    def _padded(self, targets: Sequence[Mapping[str, Tensor]], width: int) -> tuple[Tensor, Tensor]:
        """Labels `[B,width]`, the padding class beyond an image's own, and boxes `[B,width,4]`, zeros beyond."""
        labels = [_pad_rows(target["labels"], width, self.num_classes) for target in targets]
        boxes = [_pad_rows(target["boxes"], width, 0.0) for target in targets]
        return torch.stack(labels), torch.stack(boxes)

    def _noisy_labels(self, labels: Tensor, noise: Tensor) -> Tensor:
        """Labels `[B,groups,2,width]`, some replaced by any class; padding stays."""
        labels = labels[:, None, None].expand(noise.shape[:-1])
        changed = (noise[..., 0] < self.label_noise * 0.5) & (labels != self.num_classes)
        drawn = (noise[..., 1] * self.num_classes).long().clamp(max=self.num_classes - 1)
        return torch.where(changed, drawn, labels)

    def _noisy_boxes(self, boxes: Tensor, noise: Tensor) -> Tensor:
        """Reference boxes `[B,groups,2,width,4]`, positives and negatives."""
        boxes = boxes[:, None, None].expand(*noise.shape[:-1], 4)
        if self.box_noise <= 0:
            return boxes  # as published: without noise they are not brought to logits
        sign, size = noise[..., :4], noise[..., 4:]
        farther = torch.arange(2, device=boxes.device).view(2, 1, 1)
        offset = torch.where(sign < 0.5, -1.0, 1.0) * (size + farther)
        half_size = boxes[..., 2:].repeat(1, 1, 1, 1, 2) * 0.5 * self.box_noise
        corners = (cxcywh_to_xyxy(boxes) + offset * half_size).clamp(0.0, 1.0)
        return inverse_sigmoid(xyxy_to_cxcywh(corners))


def positive_queries(counts: Sequence[int], groups: int, width: int) -> list[Tensor]:
    """For each image with `counts` boxes, the positive queries, int64 `[groups * count]`, group by group."""
    starts = torch.arange(groups).unsqueeze(1) * 2 * width
    return [(starts + torch.arange(count)).flatten() for count in counts]


def visibility(groups: int, width: int, num_matching: int, device: torch.device | str = "cpu") -> Tensor:
    """Which query a denoising query sees, bool `[N,T]`: its group, of 2 * `width`, and the matching queries.

    The denoising queries of `groups` come first.
    """
    num_denoising = 2 * groups * width
    query = torch.arange(num_denoising + num_matching, device=device)
    group = query.div(2 * width, rounding_mode="floor").clamp(max=groups)
    return (group[:num_denoising, None] == group[None, :]) | (group[None, :] == groups)


def _draw(counts: Sequence[int], groups: int, width: int, generators: Sequence[Generator] | None) -> Tensor:
    """Uniform numbers `[B,groups,2,width,DRAWS]`, zeros for padding."""
    noise = torch.zeros(len(counts), groups, 2, width, DRAWS)
    for image, count in enumerate(counts):
        generator = generators[image] if generators is not None else None
        noise[image, :, :, :count] = torch.rand(groups, 2, count, DRAWS, generator=generator)
    return noise


def _pad_rows(values: Tensor, rows: int, value: float) -> Tensor:
    padded = values.new_full((rows, *values.shape[1:]), value)
    padded[: len(values)] = values
    return padded
