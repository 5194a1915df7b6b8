"""From what the detector returns to detections in pixels."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from detrofit.model.output import Prediction
from detrofit.parts.boxes import cxcywh_to_xyxy, full_precision


class Detections(NamedTuple):
    """The K best detections of each image, best first.

    Attributes:
        scores: `[B,K]` in 0..1.
        labels: class ids int64 `[B,K]`.
        boxes: xyxy `[B,K,4]` in pixels of the original image.
    """

    scores: Tensor
    labels: Tensor
    boxes: Tensor


def postprocess(
    prediction: Prediction,
    sizes: Tensor,
    max_detections: int = 300,
    *,
    class_score: Literal["sigmoid", "softmax"] = "sigmoid",
) -> Detections:
    """The best detections, without suppression of overlapping ones.

    With the sigmoid, pairs of a query and a class compete, so that a query may be several classes. With softmax (the
    last logit is background) a query has one class.

    Args:
        prediction: logits `[B,Q,C]` and boxes cxcywh `[B,Q,4]` in 0..1.
        sizes: (height, width) of each original image in pixels, `[B,2]`.
        max_detections: K at most.
    """
    logits = full_precision(prediction.logits)
    if class_score == "sigmoid":
        num_classes = logits.shape[-1]
        scores, index = _best(logits.flatten(1).sigmoid(), max_detections)
        queries, labels = index // num_classes, index % num_classes
    else:
        query_scores, query_labels = logits.softmax(-1)[..., :-1].max(-1)
        scores, queries = _best(query_scores, max_detections)
        labels = query_labels.gather(1, queries)
    boxes = prediction.boxes.gather(1, queries.unsqueeze(-1).expand(-1, -1, 4))
    height, width = sizes.to(boxes.device, torch.promote_types(boxes.dtype, torch.float32)).unbind(-1)
    pixels = torch.stack((width, height, width, height), dim=-1).unsqueeze(1)
    return Detections(scores, labels, cxcywh_to_xyxy(full_precision(boxes)) * pixels)


def _best(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The highest of `scores` `[B,N]` and their indices, best first, `count` of them or all."""
    best = scores.topk(min(count, scores.shape[1]), dim=1)
    return best.values, best.indices
