"""The model in the form that is exported: pictures in, detections or raw predictions out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detrofit.deployment.map_reading import Sampler, read_maps
from detrofit.model.detector import RTDETR
from detrofit.model.fuse import fuse
from detrofit.model.postprocess import postprocess
from detrofit.runtime.exported import OUTPUTS


class ExportedGraph(nn.Module):
    """A fused model for pictures of one size.

    From float32 RGB pictures `[B,3,H,W]` in 0..1 to boxes xyxy `[B,K,4]` in pixels of the input, scores `[B,K]` and
    labels int64 `[B,K]`, best first; or, raw, to logits `[B,Q,C]` and boxes cxcywh `[B,Q,4]` in 0..1.
    """

    size: Tensor

    def __init__(self, model: RTDETR, size: tuple[int, int], *, raw: bool, sampler: Sampler) -> None:
        super().__init__()
        self.model = fuse(model)
        self.raw, self.max_detections = raw, model.frame.max_detections
        read_maps(self.model.decoder, sampler)
        self.register_buffer("size", torch.tensor([size], dtype=torch.float32))

    @property
    def output_names(self) -> list[str]:
        return OUTPUTS["raw" if self.raw else "detections"]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        prediction = self.model(images).prediction
        if self.raw:
            return tuple(prediction)
        found = postprocess(prediction, self.size, self.max_detections)
        return found.boxes, found.scores, found.labels
