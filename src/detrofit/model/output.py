"""What the detector returns."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Prediction(NamedTuple):
    """What one decoder layer, or the encoder's selection, says about each query.

    Attributes:
        logits: class logits `[B,Q,C]`, before the sigmoid; C is 1 for a class-agnostic encoder head.
        boxes: cxcywh `[B,Q,4]` in 0..1 of the network's input.
    """

    logits: Tensor
    boxes: Tensor


class DenoisingLayout(NamedTuple):
    """Where the denoising queries that shall find a box stand.

    Attributes:
        num_groups: how often each box is repeated, at least 1.
        num_queries: denoising queries an image, padding included.
        positives: for each image, int64 `[num_groups * boxes]` on the CPU: queries that reconstruct a box, group by
            group, in the order of the image's targets (so position p belongs to target p % boxes).
    """

    num_groups: int
    num_queries: int
    positives: list[Tensor]


class DetectorOutput(NamedTuple):
    """What the detector returns; in eval everything but `prediction` is empty.

    Attributes:
        prediction: of the last decoder layer (in eval: of the last one that runs).
        auxiliary: of the decoder layers before the last.
        encoder: of the encoder's top-k queries, before the decoder.
        denoising: of the denoising queries, for every decoder layer.
        denoising_layout: how to match `denoising`; None where there is none.
        selected: int64 `[B,Q]`, the encoder token that each query comes from, levels in the order of their strides,
            row by row.
    """

    prediction: Prediction
    auxiliary: list[Prediction]
    encoder: list[Prediction]
    denoising: list[Prediction]
    denoising_layout: DenoisingLayout | None
    selected: Tensor
