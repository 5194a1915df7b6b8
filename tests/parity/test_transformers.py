"""RT-DETR and RT-DETRv2 of Hugging Face transformers against ours: outputs, losses and gradients, weights both ways.

Where transformers departs from the official implementation, which ours follows:

- Position embedding of the encoder: transformers numbers the cells of a rectangle properly, the official one scrambles
  them (its embedding runs with the width slowest, its tokens with the height slowest). On squares both are the same,
  so rectangles are compared with the official embedding put into transformers.
- Boxes of decoder layers after the first: the official ones carry a gradient to the layer before, those of
  transformers do not. So the gradient of all losses is compared with one decoder layer, and with several that of the
  losses without such boxes.
- Discrete sampling: the official one ends both axes at the map's height, transformers each at its own. On squares, and
  on maps higher than wide, both are the same.
- A batch without any box: the official v2 makes two padding queries for denoising, transformers none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detrofit import build
from detrofit.errors import DetrofitError
from detrofit.model.detector import RTDETR
from detrofit.parts.attention.aifi import position_embedding
from detrofit.weights.huggingface import from_huggingface, to_huggingface
from detrofit.weights.transfer import transfer

transformers = pytest.importorskip("transformers")

SQUARE, WIDE, HIGH = (96, 96), (64, 128), (128, 64)
CLASSES, QUERIES, WIDTH, FFN = 5, 12, 32, 48
LAYERS = {"basic": {"depths": [2, 2, 2, 2], "hidden_sizes": [16, 24, 32, 40]}}
LAYERS["bottleneck"] = {"depths": [3, 4, 6, 3], "hidden_sizes": [32, 64, 96, 128]}
VERSIONS = [1, 2]
TERMS = {"vfl": "class", "bbox": "l1", "giou": "box"}
TARGETS = [
    {"labels": torch.tensor([0, 4, 2]), "boxes": torch.tensor([[0.3, 0.4, 0.2, 0.3], [0.6, 0.5, 0.5, 0.4], [0.8, 0.2, 0.1, 0.1]])},
    {"labels": torch.tensor([1]), "boxes": torch.tensor([[0.5, 0.5, 0.9, 0.8]])},
]  # fmt: skip
"""Two images with boxes."""


def their_model(version: int, layer_type: str = "basic", **settings: Any) -> nn.Module:
    """A narrow model of transformers whose weights are of the usual size in every place."""
    sizes = LAYERS[layer_type]["hidden_sizes"]
    backbone = transformers.RTDetrResNetConfig(
        embedding_size=16,
        layer_type=layer_type,
        out_features=["stage2", "stage3", "stage4"],
        downsample_in_bottleneck=False,
        **LAYERS[layer_type],
    )
    values: dict[str, Any] = {
        "backbone_config": backbone,
        "freeze_backbone_batch_norms": True,
        "encoder_in_channels": sizes[1:],
        "encoder_hidden_dim": WIDTH,
        "encoder_ffn_dim": FFN,
        "decoder_in_channels": [WIDTH] * 3,
        "d_model": WIDTH,
        "decoder_ffn_dim": FFN,
        "decoder_layers": 2,
        "hidden_expansion": 0.5,
        "num_queries": QUERIES,
        "num_labels": CLASSES,
        "num_denoising": 0,
    } | settings
    if version == 1:
        model = transformers.RTDetrForObjectDetection(transformers.RTDetrConfig(**values))
    else:
        model = transformers.RTDetrV2ForObjectDetection(transformers.RTDetrV2Config(**values))
    generator = torch.Generator().manual_seed(version)
    for name, tensor in model.state_dict().items():
        randomise(name, tensor, generator)
    return model.eval()


def randomise(name: str, tensor: Tensor, generator: torch.Generator) -> None:
    if name.endswith("running_var") or (name.endswith(".weight") and tensor.ndim == 1):
        tensor.uniform_(0.5, 1.5, generator=generator)
    elif name.endswith(".weight"):
        tensor.normal_(0, (1.5 / tensor[0].numel()) ** 0.5, generator=generator)
    elif tensor.is_floating_point() and not name.endswith("n_points_scale"):
        tensor.normal_(0, 0.2, generator=generator)


def our_model(theirs: nn.Module, layer_type: str = "basic", **settings: Any) -> RTDETR:
    """Our model of the same numbers with the weights of `theirs`."""
    config = theirs.config
    sizes = LAYERS[layer_type]["hidden_sizes"]
    bottleneck = layer_type == "bottleneck"
    widths = [size // 4 for size in sizes] if bottleneck else sizes
    model = build(
        "rtdetr-r18",
        {
            "backbone": {"part": "resnet-vd", "depth": 50 if bottleneck else 18, "widths": widths},
            "backbone.stem": {"part": "deep-stem"},
            "encoder.attention": {"part": "aifi", "ffn_dim": FFN},
        },
        num_classes=CLASSES,
        settings={
            "hidden_dim": WIDTH,
            "decoder_dim": WIDTH,
            "decoder_ffn_dim": FFN,
            "decoder_layers": config.decoder_layers,
            "num_queries": config.num_queries,
            "num_denoising": config.num_denoising,
            "label_noise": config.label_noise_ratio,
            "box_noise": config.box_noise_scale,
            "points": [config.decoder_n_points],
            **settings,
        },
    )
    model.load_state_dict(from_huggingface(theirs.state_dict()))
    return model.eval()


def images(size: tuple[int, int]) -> Tensor:
    return torch.rand(len(TARGETS), 3, *size, generator=torch.Generator().manual_seed(7))


def use_official_positions(monkeypatch: pytest.MonkeyPatch, theirs: nn.Module) -> None:
    for module in theirs.modules():
        if type(module).__name__.endswith("SinePositionEmbedding"):
            monkeypatch.setattr(
                module,
                "forward",
                lambda width, height, device, dtype: position_embedding(width, height, WIDTH).to(device, dtype),
            )
