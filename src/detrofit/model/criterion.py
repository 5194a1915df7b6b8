"""The training losses of every decoder layer, the query selection and denoising, computed in one go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from detrofit.model.matcher import HungarianMatcher, Matches
from detrofit.model.output import DenoisingLayout, DetectorOutput, Prediction
from detrofit.parts.boxes import box_iou, full_precision, generalized_iou

TERMS = ("class", "l1", "box")


class _Layer(NamedTuple):
    """A prediction to supervise: where its losses are named `class.NAME`, its pairs, what divides its sums."""

    name: str
    prediction: Prediction
    matches: Matches
    num_boxes: float


class Criterion(nn.Module):
    """Weighted class, L1 and box loss of the last decoder layer and, in training, of all auxiliary predictions.

    Each prediction is matched to the targets by itself; denoising queries have the targets that they were made from.
    Sums are divided by the number of target boxes (times the denoising groups). Always in float32.

    Args:
        box_loss, class_loss: parts of the slots loss.box and loss.class.
        matcher: pairs predictions with targets.
        class_weight, l1_weight, box_weight: factors of the three losses.
        box_loss_scale: multiplies each pair's box loss by its IoU or generalised IoU, which is then also what the
            class loss sees as IoU (RT-DETRv2's option; none in its published models).
        share_matches: the auxiliary decoder layers take the last layer's pairs (RT-DETRv2's option).
    """

    def __init__(
        self,
        box_loss: nn.Module,
        class_loss: nn.Module,
        matcher: HungarianMatcher,
        *,
        class_weight: float = 1.0,
        l1_weight: float = 5.0,
        box_weight: float = 2.0,
        box_loss_scale: Literal["none", "iou", "giou"] = "none",
        share_matches: bool = False,
    ) -> None:
        super().__init__()
        self.box_loss, self.class_loss, self.matcher = box_loss, class_loss, matcher
        self.weights = (class_weight, l1_weight, box_weight)
        self.box_loss_scale, self.share_matches = box_loss_scale, share_matches

    def forward(
        self,
        output: DetectorOutput,
        targets: Sequence[dict[str, Tensor]],
        image_size: tuple[float, float],
        num_boxes: float | None = None,
    ) -> dict[str, Tensor]:
        """The weighted losses, whose sum is what to minimise.

        Args:
            output: what the detector returned for a batch of B images.
            targets: a dict for each image with `labels` int64 [n] and `boxes` [n,4] cxcywh in 0..1, n may be 0.
            image_size: (height, width) of the network's input in pixels.
            num_boxes: number of target boxes to divide by; default those in `targets`, or 1. Give the mean over
                processes, or the sum over accumulated batches; where there is no box at all, of 1.

        Returns:
            `class`, `l1`, `box` of the last layer, then `class.layer0`, ..., `class.encoder`, ...,
            `class.denoising0`, ... A loss without boxes is a zero with a gradient; one whose matching costs were not
            finite is NaN.
        """
        with torch.autocast(output.prediction.logits.device.type, enabled=False):
            layers = list(self._layers(output, targets, image_size, num_boxes))
            boxes = full_precision(torch.cat([target["boxes"] for target in targets]))
            labels = torch.cat([target["labels"] for target in targets])
            losses: dict[str, Tensor] = {}
            for num_classes in {layer.prediction.logits.shape[-1]: None for layer in layers}:
                group = [layer for layer in layers if layer.prediction.logits.shape[-1] == num_classes]
                known = labels if num_classes > 1 else torch.zeros_like(labels)
                losses |= self._losses(group, boxes, known, image_size)
        return losses

    def _layers(
        self,
        output: DetectorOutput,
        targets: Sequence[dict[str, Tensor]],
        image_size: tuple[float, float],
        num_boxes: float | None,
    ) -> Iterator[_Layer]:
        counts = [len(target["labels"]) for target in targets]
        divisor = max(float(sum(counts)), 1.0) if num_boxes is None else num_boxes
        auxiliary = [] if self.share_matches else list(output.auxiliary)
        matches = self.matcher([output.prediction, *auxiliary, *output.encoder], targets, image_size)
        if self.share_matches:
            matches[1:1] = [matches[0]] * len(output.auxiliary)
        names = ["", *_numbered("layer", output.auxiliary), *_numbered("encoder", output.encoder)]
        for name, prediction, pairs in zip(names, (output.prediction, *output.auxiliary, *output.encoder), matches):
            yield _Layer(name, prediction, pairs, divisor)
        if output.denoising_layout is not None:
            pairs = _denoising_matches(output.denoising_layout, counts)
            divisor *= output.denoising_layout.num_groups
            for name, prediction in zip(_numbered("denoising", output.denoising), output.denoising):
                yield _Layer(name, prediction, pairs, divisor)

    def _losses(
        self, layers: list[_Layer], boxes: Tensor, labels: Tensor, image_size: tuple[float, float]
    ) -> dict[str, Tensor]:
        """Losses of layers with the same number of classes: queries `[N]` and pairs `[P]` of all layers in a row."""
        logits = full_precision(torch.cat([layer.prediction.logits.flatten(0, 1) for layer in layers]))
        predicted = full_precision(torch.cat([layer.prediction.boxes.flatten(0, 1) for layer in layers]))
        row, target = _pair_rows(layers).to(boxes.device, non_blocking=True)
        predicted, boxes, labels = predicted[row], boxes[target], labels[target]
        iou, box_factor = self._pair_quality(predicted.detach(), boxes)

        one_hot = torch.zeros_like(logits)
        one_hot[row, labels] = 1
        query_iou = iou.new_zeros(len(logits), 1)
        query_iou[row, 0] = iou
        per_query = self.class_loss(logits, one_hot, query_iou).sum(-1)
        l1 = (predicted - boxes).abs().sum(-1)
        box = self.box_loss(predicted, boxes, image_size) * box_factor

        queries = [layer.prediction.logits.shape[:2].numel() for layer in layers]
        pairs = [len(layer.matches.query) for layer in layers]
        sums = torch.stack([*_sums(per_query, queries), *_sums(l1, pairs), *_sums(box, pairs)])
        factors = [self._factor(layer, weight) for weight in self.weights for layer in layers]
        weighted = (sums * sums.new_tensor(factors)).view(len(TERMS), len(layers)).T.flatten().unbind()
        names = [f"{term}.{layer.name}".rstrip(".") for layer in layers for term in TERMS]
        return dict(zip(names, weighted))

    def _pair_quality(self, predicted: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor | float]:
        """What the class loss sees as IoU of each pair, and the factor of its box loss."""
        if self.box_loss_scale == "none":
            return box_iou(predicted, boxes), 1.0
        quality = box_iou(predicted, boxes) if self.box_loss_scale == "iou" else generalized_iou(predicted, boxes)
        return quality, quality

    def _factor(self, layer: _Layer, weight: float) -> float:
        # A broken prediction that stayed unmatched must not leave a loss that looks healthy.
        return weight / layer.num_boxes if layer.matches.finite else float("nan")


def _numbered(name: str, predictions: Sequence[Prediction]) -> list[str]:
    return [f"{name}{number}" for number in range(len(predictions))]


def _sums(values: Tensor, lengths: list[int]) -> list[Tensor]:
    return [part.sum() for part in values.split(lengths)]


def _pair_rows(layers: list[_Layer]) -> Tensor:
    """Row of the prediction, among all layers' queries in a row, and of the target, for each pair: int64 `[2,P]`."""
    rows, start = [], 0
    for layer in layers:
        images, queries = layer.prediction.logits.shape[:2]
        rows.append(start + layer.matches.image * queries + layer.matches.query)
        start += images * queries
    target = np.concatenate([layer.matches.target for layer in layers])
    return torch.from_numpy(np.stack([np.concatenate(rows), target]))


def _denoising_matches(layout: DenoisingLayout, counts: list[int]) -> Matches:
    """Each group's positive queries with the targets that they were made from."""
    query = [positives.numpy() for positives in layout.positives]
    image = [np.full(len(queries), number) for number, queries in enumerate(query)]
    starts = np.cumsum([0, *counts])
    target = [np.tile(np.arange(*ends), layout.num_groups) for ends in pairwise(starts)]
    return Matches(np.concatenate(image), np.concatenate(query), np.concatenate(target))
