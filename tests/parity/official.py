"""Arguments of the official RT-DETR's modules, in either version's words, with their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from detrofit.weights.names import strides_of

from .naming import activation, skip_other_arguments

BLOCKS_AT_FULL_DEPTH = 3
ENCODER = {
    "in_channels": [512, 1024, 2048],
    "hidden_dim": 256,
    "nhead": 8,
    "dim_feedforward": 1024,
    "dropout": 0.0,
    "enc_act": "gelu",
    "use_encoder_idx": [2],
    "num_encoder_layers": 1,
    "pe_temperature": 10000,
    "expansion": 1.0,
    "depth_mult": 1.0,
    "act": "silu",
}
DECODER = {
    "num_classes": 80,
    "hidden_dim": 256,
    "num_queries": 300,
    "feat_channels": [512, 1024, 2048],
    "num_levels": 3,
    "num_points": 4,
    "nhead": 8,
    "num_layers": 6,
    "dim_feedforward": 1024,
    "dropout": 0.0,
    "activation": "relu",
    "num_denoising": 100,
    "label_noise_ratio": 0.5,
    "box_noise_scale": 1.0,
    "learn_query_content": False,
    "eval_idx": -1,
    "aux_loss": True,
    "cross_attn_method": "default",
    "query_select_method": "default",
}
_SECOND_VERSION = {
    "num_decoder_layers": "num_layers",
    "num_decoder_points": "num_points",
    "learnt_init_query": "learn_query_content",
}
# A level's stride, the size of evaluated images and the names' version change nothing here; the kind of position is
# never read by the original.
_UNREAD = ("feat_strides", "eval_spatial_size", "version", "position_embed_type")


def encoder_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of the hybrid encoder; skips a case with others, or with attention elsewhere than on the last."""
    skip_other_arguments(given, (*ENCODER, *_UNREAD))
    args = {**ENCODER, **given}
    levels = args["use_encoder_idx"] if args["num_encoder_layers"] else []
    if levels not in ([], [len(args["in_channels"]) - 1]):
        pytest.skip("there is attention on the last level only here")
    return args


def aifi_options(args: Mapping[str, Any]) -> dict[str, Any] | None:
    """The options of `aifi` that make it this encoder's attention, or None where it has none."""
    if not args["use_encoder_idx"] or not args["num_encoder_layers"]:
        return None
    return {
        "layers": args["num_encoder_layers"],
        "heads": args["nhead"],
        "ffn_dim": args["dim_feedforward"],
        "dropout": args["dropout"],
        "activation": activation(args["enc_act"]),
        "temperature": args["pe_temperature"],
    }


def csp_rep_options(args: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `csp-rep` that make it this encoder's fusion block."""
    blocks = round(BLOCKS_AT_FULL_DEPTH * args["depth_mult"])
    if blocks == 0:
        pytest.skip("a fusion block has at least one RepVGG block here")
    return {"expansion": args["expansion"], "blocks": blocks, "activation": activation(args["act"])}


def decoder_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of the decoder in the second version's words; skips a case with others."""
    named = {_SECOND_VERSION.get(name, name): value for name, value in given.items()}
    skip_other_arguments(named, (*DECODER, *_UNREAD), eps=0.01)
    return {**DECODER, **named}


def evaluated_layers(args: Mapping[str, Any]) -> int:
    """How many of the decoder's layers run outside training."""
    return args["eval_idx"] % args["num_layers"] + 1


def encoder_strides(args: Mapping[str, Any]) -> list[int]:
    """Our strides of the encoder's levels, which are names alone here."""
    return strides_of(len(args["in_channels"]))
