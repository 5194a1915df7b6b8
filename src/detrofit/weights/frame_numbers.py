"""Numbers of the frame that a checkpoint tells by its tensors, where they differ from the zoo's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

HEAD = "decoder.score_head.layer0.weight"
OFFSETS = "decoder.layer0.cross_attention.sampling_offsets.bias"
_SELECTION = "decoder.query_selection.score_head.weight"
_LEARNT = "decoder.query_selection.learnt_content.weight"
_SCALE = "decoder.decoder.layers.0.cross_attn.num_points_scale"  # RT-DETRv2's, by its official name
_HEADS = 8


def frame_numbers(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """What shapes tell, from tensors by our names; `HEAD` and `OFFSETS` must be among them.

    All levels are taken to have as many sampling points. A score for all classes in one is agnostic selection. Learnt
    queries have a vector each.
    """
    levels = sum(name.startswith("decoder.input_projection.") and name.endswith("conv.weight") for name in state)
    points = state[OFFSETS].numel() // (2 * _HEADS * max(levels, 1))
    numbers: dict[str, Any] = {} if points == 4 else {"points": [points]}
    if _SELECTION in state and len(state[_SELECTION]) == 1 < len(state[HEAD]):
        numbers["query_selection"] = "agnostic"
    if _LEARNT in state:
        numbers |= {"learnt_queries": True, "num_queries": len(state[_LEARNT])}
    return numbers


def unequal_points(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Sampling points of each level where they are not the same, from tensors by their official names.

    Shapes tell their sum alone, which 3, 6, 3 and 4, 4, 4 share; RT-DETRv2 keeps for each point one over their number.
    """
    inverses = state[_SCALE].flatten().tolist() if _SCALE in state and state[_SCALE].numel() < 1000 else []
    counts: list[int] = []
    while sum(counts) < len(inverses):
        inverse = inverses[sum(counts)]
        if not 0.01 < inverse <= 1:
            return {}
        counts.append(round(1 / inverse))
    return {"points": counts} if len(set(counts)) > 1 else {}
