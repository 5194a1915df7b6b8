"""The frame: images to detections through a backbone, the hybrid encoder and the decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from detrofit.model.criterion import Criterion
from detrofit.model.decoder import Decoder
from detrofit.model.frame import Frame
from detrofit.model.hybrid_encoder import HybridEncoder
from detrofit.model.output import DetectorOutput


class RTDETR(nn.Module):
    """RT-DETR with whatever parts its slots hold (arXiv:2304.08069, arXiv:2407.17140).

    Attributes:
        frame: the numbers that are no part's.
        slots: every filled address with its part and all options, and `retrofit`: those that differ from the stock
            model; together with `frame` they rebuild this model.
        num_classes: classes it tells apart.
        size_multiple: heights and widths of images must be multiples of it.
    """

    size_multiple = 32
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        encoder: HybridEncoder,
        decoder: Decoder,
        criterion: Criterion,
        *,
        frame: Frame,
        num_classes: int,
        slots: Mapping[str, Mapping[str, Any]],
        retrofit: Sequence[str],
    ) -> None:
        super().__init__()
        self.backbone, self.encoder, self.decoder, self.criterion = backbone, encoder, decoder, criterion
        self.frame, self.num_classes = frame, num_classes
        self.slots, self.retrofit = slots, tuple(retrofit)
        self._normalises = tuple(backbone.mean) != (0, 0, 0) or tuple(backbone.std) != (1, 1, 1)  # type: ignore[arg-type]
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(backbone, name)).view(1, 3, 1, 1), persistent=False)

    def forward(
        self,
        images: Tensor,
        targets: Sequence[Mapping[str, Tensor]] | None = None,
        *,
        generators: Sequence[torch.Generator] | None = None,
        max_boxes: int | None = None,
    ) -> DetectorOutput:
        """Predictions for images float32 [B,3,H,W] in 0..1, H and W multiples of 32.

        In training, `targets` are denoised with noise from `generators` (one an image), in as many groups as
        `max_boxes` (the most boxes of an image over all processes; default: of this batch) allows.
        """
        return self.decoder(self.maps(images), targets, generators=generators, max_boxes=max_boxes)

    def maps(self, images: Tensor) -> list[Tensor]:
        """What the decoder reads: the encoder's map `[B,D,H/stride,W/stride]` for each stride of the frame."""
        if self._normalises:
            images = (images - self.mean) / self.std
        return self.encoder(self.backbone(images))
