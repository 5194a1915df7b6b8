"""Writing a model as a folder that Hugging Face transformers loads with `from_pretrained`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from detrofit.errors import DetrofitError
from detrofit.files import write_file
from detrofit.model.detector import RTDETR
from detrofit.weights.huggingface import to_huggingface
from detrofit.weights.model_file import ModelInfo
from detrofit.weights.tensor_file import write_tensors

_DEPTHS = {18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 6, 3], 101: [3, 4, 23, 3]}
_STOCK_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "encoder.attention": {"activation": "gelu", "temperature": 10000},
    "encoder.fusion": {"activation": "silu"},
    "encoder.fusion_block": {"activation": "silu", "blocks": 3},
}
_ATTENTION = "model.decoder.layers.{}.encoder_attn."
_FROZEN_COUNTER = re.compile(r"model\.backbone\..*num_batches_tracked$")
_DECODER_LAYER = re.compile(r"decoder\.(?:layer|score_head\.layer|box_head\.layer)(\d+)\.")


def write_huggingface(folder: Path, model: RTDETR, info: ModelInfo) -> None:
    """Write `config.json`, `preprocessor_config.json` and `model.safetensors`; equal outputs on square pictures.

    On other shapes transformers numbers the encoder's cells in another order. Decoder layers that only training uses
    are left out. Raises DetrofitError for a model with parts or settings that transformers has no counterpart of.
    """
    config = huggingface_config(model, info)
    layers = config["decoder_layers"]
    state = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if not (match := _DECODER_LAYER.match(name)) or int(match.group(1)) < layers
    }
    # The backbone's norms are frozen there, and have no counters.
    tensors = {name: tensor for name, tensor in to_huggingface(state).items() if not _FROZEN_COUNTER.match(name)}
    if "V2" in config["architectures"][0]:
        points = [1 / count for count in model.frame.points_of_levels for _ in range(count)]
        tensors |= {f"{_ATTENTION.format(layer)}n_points_scale": torch.tensor(points) for layer in range(layers)}
    write_tensors(folder / "model.safetensors", tensors, {"format": "pt"})
    write_file(folder / "config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    write_file(folder / "preprocessor_config.json", json.dumps(_preprocessor(info), indent=2) + "\n")


def huggingface_config(model: RTDETR, info: ModelInfo) -> dict[str, Any]:
    """The configuration of the same model in transformers."""
    frame = model.frame
    _check(model)
    is_version_2 = frame.sampling == "discrete" or info.name.startswith("rtdetrv2-")
    attention, fusion_block = model.slots["encoder.attention"], model.slots["encoder.fusion_block"]
    backbone = _backbone(model.slots["backbone"])
    version_2: dict[str, Any] = {
        "decoder_n_levels": len(frame.strides),
        "decoder_method": "discrete" if frame.sampling == "discrete" else "default",
    }
    return {
        "architectures": [f"RTDetr{'V2' if is_version_2 else ''}ForObjectDetection"],
        "model_type": "rt_detr_v2" if is_version_2 else "rt_detr",
        "backbone_config": backbone,
        "encoder_in_channels": backbone["hidden_sizes"][1:],
        "encoder_hidden_dim": frame.hidden_dim,
        "encoder_layers": attention["layers"],
        "encoder_ffn_dim": attention["ffn_dim"],
        "encoder_attention_heads": attention["heads"],
        "hidden_expansion": fusion_block["expansion"],
        "d_model": frame.decoder_dim,
        "decoder_in_channels": [frame.hidden_dim] * len(frame.strides),
        "decoder_ffn_dim": frame.decoder_ffn_dim,
        "decoder_layers": frame.eval_decoder_layers or frame.decoder_layers,
        "decoder_attention_heads": frame.heads,
        "decoder_n_points": frame.points_of_levels[0],
        "num_queries": frame.num_queries,
        "num_denoising": frame.num_denoising,
        "label_noise_ratio": frame.label_noise,
        "box_noise_scale": frame.box_noise,
        "id2label": {str(index): name for index, name in enumerate(info.class_names)},
        "label2id": {name: index for index, name in enumerate(info.class_names)},
        **(version_2 if is_version_2 else {}),
    }


def _check(model: RTDETR) -> None:
    frame, slots = model.frame, model.slots
    parts = {"backbone": "resnet-vd", "encoder.attention": "aifi", "encoder.fusion": "ccfm"}
    parts |= {"encoder.fusion_block": "csp-rep", "encoder.context": "none"}
    for address, part in parts.items():
        given = slots.get(address, {}).get("part")
        if given != part:
            raise DetrofitError(f"transformers' RT-DETR has '{part}' in {address} and cannot have '{given}'")
    for address in model.retrofit:
        if address not in parts and not address.startswith(("loss.", "matcher.")):
            raise DetrofitError(f"transformers' RT-DETR has stock parts only; this model has its own in {address}")
    for address, stock in _STOCK_OPTIONS.items():
        if any(slots[address][option] != value for option, value in stock.items()):
            raise DetrofitError("transformers' RT-DETR is exported with the stock options of its encoder's parts only")
    if frame.strides != (8, 16, 32):
        raise DetrofitError("transformers' RT-DETR is exported with strides 8, 16, 32 only")
    if len(set(frame.points_of_levels)) > 1 or frame.query_selection != "default" or frame.learnt_queries:
        raise DetrofitError("transformers' RT-DETR has as many points on every level, and the default query selection")


def _backbone(choice: Mapping[str, Any]) -> dict[str, Any]:
    bottleneck = choice["depth"] >= 50
    return {
        "model_type": "rt_detr_resnet",
        "layer_type": "bottleneck" if bottleneck else "basic",
        "depths": _DEPTHS[choice["depth"]],
        "embedding_size": choice["widths"][0],
        "hidden_sizes": [width * (4 if bottleneck else 1) for width in choice["widths"]],
        "out_features": ["stage2", "stage3", "stage4"],
    }


def _preprocessor(info: ModelInfo) -> dict[str, Any]:
    height, width = info.input_size
    return {
        "image_processor_type": "RTDetrImageProcessor",
        "do_resize": True,
        "size": {"height": height, "width": width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": False,
        "do_pad": False,
    }
