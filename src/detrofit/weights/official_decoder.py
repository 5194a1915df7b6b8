"""Our name of each entry of the official decoders, v1 (RTDETRTransformer) and v2 (RTDETRTransformerv2)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from detrofit.errors import DetrofitError

# Beginnings of names, with {stride} for the level whose position the name holds.
_BEGINNINGS = (
    (r"input_proj\.([0-9]{1,4})\.", "input_projection.stride{stride}."),
    (r"enc_output\.(?:0|proj)\.", "query_selection.projection."),
    (r"enc_output\.(?:1|norm)\.", "query_selection.norm."),
    (r"enc_score_head\.", "query_selection.score_head."),
    (r"enc_bbox_head\.", "query_selection.box_head."),
    (r"decoder\.layers\.([0-9]{1,4})\.", "layer{index}."),
    (r"dec_score_head\.([0-9]{1,4})\.", "score_head.layer{index}."),
    (r"dec_bbox_head\.([0-9]{1,4})\.", "box_head.layer{index}."),
    (r"tgt_embed\.", "query_selection.learnt_content."),
    (r"query_pos_head\.", "query_position."),
    (r"denoising_class_embed\.", "denoising.embedding."),
)
_INSIDE_LAYERS = {
    "self_attn.": "self_attention.",
    "cross_attn.": "cross_attention.",
    "value_proj.": "value_projection.",
    "output_proj.": "output_projection.",
}
# Constants that follow from the configuration, kept in official checkpoints as buffers.
_DERIVED = re.compile(r"(anchors|valid_mask|decoder\.layers\.\d+\.cross_attn\.num_points_scale)$")


def decoder_name(official_name: str, strides: Sequence[int]) -> str | None:
    """Our name of the official decoder's entry `official_name`, or None for one that is computed, not kept.

    Both names are relative to the decoder. Raises DetrofitError for a name that no official decoder has.

    Args:
        strides: of the decoder's levels, in order.
    """
    if _DERIVED.match(official_name):
        return None
    for pattern, ours in _BEGINNINGS:
        match = re.match(pattern, official_name)
        if match:
            index = int(match.group(1)) if match.groups() else 0
            stride = strides[index] if index < len(strides) else None
            if "{stride}" in ours and stride is None:
                raise DetrofitError(f"'{official_name}' belongs to a level beyond the {len(strides)} of this model")
            return ours.format(index=index, stride=stride) + _inside_layer(official_name[match.end() :])
    raise DetrofitError(f"'{official_name}' is no entry of an official RT-DETR decoder")


def attention_name(official_name: str) -> str | None:
    """Our name of an entry of the official deformable attention, both relative to it; None for a computed one."""
    return None if official_name == "num_points_scale" else _inside_layer(official_name)


def _inside_layer(name: str) -> str:
    for official, ours in _INSIDE_LAYERS.items():
        name = name.replace(official, ours)
    return name
