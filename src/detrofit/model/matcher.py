"""Hungarian matching of predictions to targets, for all decoder layers at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional

from detrofit.model.output import Prediction
from detrofit.parts.boxes import full_precision


class Matches(NamedTuple):
    """Pairs of a prediction, as arrays of equal length, by image and then by query.

    `image` and `query` point into the prediction `[B,Q]`, `target` into the rows of all images' targets in a row.
    `finite` is False where a cost was not: such a pair was matched last, and the layer's loss means nothing.
    """

    image: np.ndarray
    query: np.ndarray
    target: np.ndarray
    finite: bool = True


class HungarianMatcher(nn.Module):
    """One query for each target of an image (or each query one target, where there are more of those) at least cost.

    cost = class_weight * class + l1_weight * L1 of the boxes (cxcywh in 0..1) + box_weight * box_loss, in float32.
    The class cost is the focal loss of the query being the target's class less that of it being background, or minus
    the softmax probability (arXiv:2005.12872).

    Args:
        box_loss: part of the slot matcher.box.
        class_cost: focal or softmax.
        alpha, gamma: of the focal class cost.
    """

    def __init__(
        self,
        box_loss: nn.Module,
        *,
        class_weight: float = 2.0,
        l1_weight: float = 5.0,
        box_weight: float = 2.0,
        class_cost: Literal["focal", "softmax"] = "focal",
        alpha: float = 0.25,
        gamma: float = 2.0,
    ) -> None:
        super().__init__()
        self.box_loss = box_loss
        self.class_weight, self.l1_weight, self.box_weight = class_weight, l1_weight, box_weight
        self.class_cost, self.alpha, self.gamma = class_cost, alpha, gamma

    @torch.no_grad()
    def forward(
        self, predictions: Sequence[Prediction], targets: Sequence[dict[str, Tensor]], image_size: tuple[float, float]
    ) -> list[Matches]:
        """Match each prediction by itself to the same targets.

        Args:
            predictions: one for each layer, of the same images; one with a single logit a query is class-agnostic.
            targets: a dict for each image with `labels` int64 [n] and `boxes` [n,4] cxcywh in 0..1.
            image_size: (height, width) of the network's input in pixels, for the box loss.
        """
        counts = [len(target["labels"]) for target in targets]
        if not sum(counts):
            nothing = np.empty(0, dtype=np.int64)
            return [Matches(nothing, nothing, nothing) for _ in predictions]
        with torch.autocast(predictions[0].logits.device.type, enabled=False):
            cost = self._cost(predictions, targets, counts, image_size)
        # The one transfer: everything after it is on the host.
        layers = np.split(cost.cpu().numpy(), np.cumsum([len(p.logits[0]) for p in predictions])[:-1], axis=1)
        return [assign(layer, counts) for layer in layers]

    def _cost(
        self,
        predictions: Sequence[Prediction],
        targets: Sequence[dict[str, Tensor]],
        counts: list[int],
        image_size: tuple[float, float],
    ) -> Tensor:
        """Cost `[targets of all images, queries of all layers]`, each target against its own image alone."""
        labels = torch.cat([target["labels"] for target in targets])
        boxes = full_precision(torch.cat([target["boxes"] for target in targets])).unsqueeze(1)
        image = torch.from_numpy(np.repeat(np.arange(len(counts)), counts)).to(labels.device)
        predicted = full_precision(torch.cat([prediction.boxes for prediction in predictions], dim=1))
        # Coordinates in planes of their own, which the box loss takes apart again, are read without strides.
        predicted = predicted.permute(2, 0, 1).contiguous().index_select(1, image).movedim(0, -1)
        cost = self.box_weight * self.box_loss(predicted, boxes, image_size)
        cost += self.l1_weight * sum(
            (coordinate - expected).abs() for coordinate, expected in zip(predicted.unbind(-1), boxes.unbind(-1))
        )
        logits = [self._class_cost(prediction.logits, image, labels) for prediction in predictions]
        return cost.add_(torch.cat(logits, dim=1), alpha=self.class_weight)

    def _class_cost(self, logits: Tensor, image: Tensor, labels: Tensor) -> Tensor:
        """`[targets, queries]`: what it costs each query of a target's image to be the target's class."""
        labels = torch.zeros_like(labels) if logits.shape[-1] == 1 else labels
        logits = full_precision(logits)
        if self.class_cost == "softmax":
            return -functional.softmax(logits, dim=-1)[image, :, labels]
        score = logits[image, :, labels].sigmoid()
        object_cost = self.alpha * (1 - score) ** self.gamma * -(score + 1e-8).log()
        return object_cost - (1 - self.alpha) * score**self.gamma * -(1 - score + 1e-8).log()


def assign(cost: np.ndarray, counts: list[int]) -> Matches:
    """Solve each image's block of a layer's cost `[targets of all images, queries]`.

    Args:
        counts: targets of each image.
    """
    finite = bool(np.isfinite(cost).all())
    if not finite:
        cost = _with_finite_maximum(cost)
    images, queries, targets, start = [], [], [], 0
    for image, count in enumerate(counts):
        target, query = linear_sum_assignment(cost[start : start + count])
        order = np.argsort(query)
        images.append(np.full(len(query), image))
        queries.append(query[order])
        targets.append(target[order] + start)
        start += count
    return Matches(np.concatenate(images), np.concatenate(queries), np.concatenate(targets), finite)


def _with_finite_maximum(cost: np.ndarray) -> np.ndarray:
    """The cost with what is not finite set above the largest finite one, so that a broken prediction comes last."""
    finite = np.isfinite(cost)
    largest = float(np.abs(cost[finite]).max(initial=0.0))
    return np.where(finite, cost.astype(np.float64), 2 * largest + 1)
