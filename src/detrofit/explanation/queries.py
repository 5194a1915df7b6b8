"""Which query a detection comes from, and what it did: gradients on a level, sampling points of each layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detrofit.errors import DetrofitError
from detrofit.model.deformable_attention import DeformableAttention
from detrofit.model.detector import RTDETR
from detrofit.overlap import box_iou
from detrofit.parts.boxes import cxcywh_to_xyxy

SAME_OBJECT = 0.5  # IoU


@dataclass(frozen=True)
class QueryDetections:
    """The best detections of a picture with the query of each: boxes xyxy `[n,4]` in 0..1, best first."""

    boxes_xyxy: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    queries: np.ndarray

    def take(self, rows: np.ndarray) -> QueryDetections:
        """These rows alone."""
        return QueryDetections(self.boxes_xyxy[rows], self.scores[rows], self.labels[rows], self.queries[rows])

    def distinct(self, most: int) -> QueryDetections:
        """The best ones of different objects: of boxes of a class that overlap by half or more only the first."""
        chosen: list[int] = []
        for row, (box, label) in enumerate(zip(self.boxes_xyxy, self.labels)):
            others = [each for each in chosen if self.labels[each] == label]
            if not others or box_iou(box, self.boxes_xyxy[others]).max() < SAME_OBJECT:
                chosen.append(row)
        return self.take(np.array(chosen[:most], np.int64))


@dataclass(frozen=True)
class LayerPoints:
    """Where a query reads in a decoder layer.

    Attributes:
        locations: x and y `[H,P,2]` in 0..1 of the picture, for each head and point.
        weights: `[H,P]`, each head's sum to 1.
        levels: int `[P]`, the position of each point's level among the strides.
    """

    locations: np.ndarray
    weights: np.ndarray
    levels: np.ndarray


@torch.no_grad()
def query_detections(model: RTDETR, image: Tensor, most: int) -> QueryDetections:
    """The `most` best detections of an eval-mode model in a picture float32 `[3,H,W]` in 0..1, a class a query."""
    prediction = model(image[None]).prediction
    scores, labels = prediction.logits[0].float().sigmoid().max(-1)
    best = scores.topk(min(most, len(scores))).indices
    boxes = cxcywh_to_xyxy(prediction.boxes[0][best].float())
    return QueryDetections(*(each.cpu().numpy() for each in (boxes, scores[best], labels[best], best)))


def gradient_saliency(model: RTDETR, image: Tensor, query: int, label: int, stride: int) -> np.ndarray:
    """How much each cell of a level adds to a query's class logit, float32 `[h,w]` in 0..1.

    The gradient of the logit with respect to the encoder's map of that stride, times the map, summed over channels,
    without what is negative (HiResCAM, arXiv:2011.08891). What comes through the query's own first content and through
    boxes is not in it: both are cut off the graph when queries are selected, and boxes after every layer.
    """
    position = level_of(model, stride)
    with torch.no_grad():
        maps = [each.detach() for each in model.maps(image[None])]
    maps[position].requires_grad_(True)
    with torch.enable_grad():
        logit = model.decoder(maps).prediction.logits[0, query, label]
        (gradient,) = torch.autograd.grad(logit, maps[position])
    saliency = (gradient * maps[position]).sum(1)[0].clamp(min=0).detach().float().cpu().numpy()
    return saliency / max(float(saliency.max()), 1e-12)


def level_of(model: RTDETR, stride: int) -> int:
    """The position of a stride among the model's levels; DetrofitError where it has none of that stride."""
    if stride not in model.frame.strides:
        known = ", ".join(map(str, model.frame.strides))
        raise DetrofitError(f"the model has no level of stride {stride}; it has {known}")
    return model.frame.strides.index(stride)


@torch.no_grad()
def sampling_points(model: RTDETR, image: Tensor, queries: np.ndarray) -> list[list[LayerPoints]]:
    """For each of `queries` where it reads in each decoder layer that runs, in the order of the layers."""
    seen: list[tuple[Tensor, Tensor, DeformableAttention]] = []

    def note(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        seen.append((*module.read_points(*inputs[:2]), module))

    attentions = [each for each in model.decoder.modules() if isinstance(each, DeformableAttention)]
    hooks = [attention.register_forward_hook(note) for attention in attentions]
    try:
        model(image[None])
    finally:
        for hook in hooks:
            hook.remove()
    return [
        [
            LayerPoints(
                locations[0, query].cpu().numpy(),
                weights[0, query].cpu().numpy(),
                np.repeat(np.arange(len(module.points)), module.points),
            )
            for locations, weights, module in seen
        ]
        for query in queries
    ]
