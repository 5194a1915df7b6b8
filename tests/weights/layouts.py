"""States of our models as other programs lay them out: names written down here once more, not taken from our maps."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

Rules = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]

INPUTS: Rules = [(rf"^input_projection\.stride{8 << level}\.", f"input_proj.{level}.") for level in range(3)]
ZERO_AND_ONE: Rules = [(r"^(input_proj\.\d\.)conv", r"\g<1>0"), (r"^(input_proj\.\d\.)norm", r"\g<1>1")]
RESNET: Rules = [
    (r"^stem\.conv(\d)\.", r"conv1.conv1_\1."),
    (r"^stage(\d)\.block(\d+)\.", lambda match: f"res_layers.{int(match[1]) - 1}.blocks.{match[2]}."),
    (r"\.shortcut\.projection\.", ".short.conv."),
    (r"\.shortcut\.", ".short."),
    (r"(blocks\.\d+)\.(?:conv1|reduce)\.", r"\1.branch2a."),
    (r"(blocks\.\d+)\.conv2?\.", r"\1.branch2b."),
    (r"(blocks\.\d+)\.expand\.", r"\1.branch2c."),
]
HGNETV2: Rules = [
    (r"^stem\.conv(2[ab])\.conv\.", r"stem.stem\1.conv.1."),
    (r"^stem\.conv(\d[ab]?)\.", r"stem.stem\1."),
    (r"^stage(\d)\.", lambda match: f"stages.{int(match[1]) - 1}."),
    (r"\.block(\d)\.", r".blocks.\1."),
    (r"\.convs\.(\d)\.pointwise\.", r".layers.\1.conv1."),
    (r"\.convs\.(\d)\.depthwise\.", r".layers.\1.conv2."),
    (r"\.convs\.(\d)\.", r".layers.\1."),
    (r"\.squeeze\.", ".aggregation_squeeze_conv."),
    (r"\.excite\.", ".aggregation_excitation_conv."),
    (r"\.norm\.", ".bn."),
]
ENCODER: Rules = [
    *INPUTS,
    (r"^attention\.layer(\d)\.attention\.", r"encoder.0.layers.\1.self_attn."),
    (r"^attention\.layer(\d)\.", r"encoder.0.layers.\1."),
    (r"blocks\.(\d)\.conv3\.", r"bottlenecks.\1.conv_."),
    (r"blocks\.(\d)\.conv1\.", r"bottlenecks.\1.conv2."),
    (r"\.conv_\.", ".conv1."),
    (r"^fusion\.lateral\.stride(32|16)", lambda match: f"lateral_convs.{['32', '16'].index(match[1])}"),
    (r"^fusion\.top_down\.stride(16|8)", lambda match: f"fpn_blocks.{['16', '8'].index(match[1])}"),
    (r"^fusion\.downsample\.stride(16|32)", lambda match: f"downsample_convs.{['16', '32'].index(match[1])}"),
    (r"^fusion\.bottom_up\.stride(16|32)", lambda match: f"pan_blocks.{['16', '32'].index(match[1])}"),
]
DECODER: Rules = [
    *INPUTS,
    (r"^query_selection\.projection", "enc_output.0"),
    (r"^query_selection\.norm", "enc_output.1"),
    (r"^query_selection\.score_head", "enc_score_head"),
    (r"^query_selection\.box_head", "enc_bbox_head"),
    (r"^score_head\.layer", "dec_score_head."),
    (r"^box_head\.layer", "dec_bbox_head."),
    (r"^layer(\d)\.", r"decoder.layers.\1."),
    (r"self_attention", "self_attn"),
    (r"cross_attention", "cross_attn"),
    (r"(value|output)_projection", r"\1_proj"),
    (r"^query_position", "query_pos_head"),
    (r"^denoising\.embedding", "denoising_class_embed"),
]
VERSION_2: Rules = [(r"^enc_output\.0", "enc_output.proj"), (r"^enc_output\.1", "enc_output.norm")]

# Positions in Ultralytics' list behind its backbone; concatenations and resampling have a number and no weights.
NECK = {
    "input_projection.stride32": 0, "attention.layer0": 1, "fusion.lateral.stride32": 2, "input_projection.stride16": 4,
    "fusion.top_down.stride16": 6, "fusion.lateral.stride16": 7, "input_projection.stride8": 9,
    "fusion.top_down.stride8": 11, "fusion.downsample.stride16": 12, "fusion.bottom_up.stride16": 14,
    "fusion.downsample.stride32": 15, "fusion.bottom_up.stride32": 17,
}  # fmt: skip
BLOCKS = {"l": (1, 1, 3, 1), "x": (1, 2, 5, 2)}
INSIDE: Rules = [
    (r"^convs\.(\d)\.pointwise\.", r"m.\1.conv1."),
    (r"^convs\.(\d)\.depthwise\.", r"m.\1.conv2."),
    (r"^convs\.(\d)\.", r"m.\1."),
    (r"^squeeze\.", "sc."),
    (r"^excite\.", "ec."),
    (r"^blocks\.(\d)\.conv3\.", r"m.\1.c1."),
    (r"^blocks\.(\d)\.conv1\.", r"m.\1.conv2."),
    (r"\.c1\.", ".conv1."),
    (r"^attention\.", "ma."),
    (r"^linear(\d)\.", r"fc\1."),
]


def renamed(name: str, *groups: Rules) -> str:
    """A name after all rules of all groups, one after the other."""
    for pattern, replacement in (rule for group in groups for rule in group):
        name = re.sub(pattern, replacement, name)
    return name


def official(state: dict[str, Tensor], version: int = 1) -> dict[str, Tensor]:
    """As the official repository lays out a checkpoint; the frozen norms of R50 and larger have no counters."""
    bottleneck = any(".expand." in name for name in state)
    backbone = HGNETV2 if any(".squeeze." in name for name in state) else RESNET
    rooms = {
        "backbone": [backbone],
        "encoder": [ENCODER, ZERO_AND_ONE] if version == 1 else [ENCODER],
        "decoder": [DECODER] if version == 1 else [DECODER, VERSION_2],
    }
    result = {}
    for name, tensor in state.items():
        room, _, inside = name.partition(".")
        if not (bottleneck and room == "backbone" and name.endswith("num_batches_tracked")):
            result[f"{room}.{renamed(inside, *rooms[room])}"] = tensor
    if version == 2:
        layers = {name.split(".")[3] for name in result if name.startswith("decoder.decoder.layers.")}
        scale = torch.full((12,), 0.25, device="cpu")  # one over the points of a level, for each point
        result |= {f"decoder.decoder.layers.{layer}.cross_attn.num_points_scale": scale for layer in layers}
        result |= {"decoder.anchors": torch.zeros(1, 4, 4), "decoder.valid_mask": torch.ones(1, 4, 1) > 0}
    return result


def official_backbone(names: Iterable[str]) -> dict[str, str]:
    """The official name of each tensor of a ResNet-vd, all relative to the backbone."""
    return {name: renamed(name, RESNET) for name in names}


def ultralytics(state: dict[str, Tensor], size: str) -> dict[str, Tensor]:
    """With Ultralytics' names, order and eps; their denoising embedding has no row for padding."""
    found: list[tuple[int, str, Tensor]] = []
    places = _ultralytics_places(size)
    for name, tensor in state.items():
        place, position = next(item for item in places.items() if name.startswith(f"{item[0]}."))
        inside = name.removeprefix(f"{place}.")
        inside = renamed(inside, DECODER, ZERO_AND_ONE) if place == "decoder" else renamed(inside, INSIDE)
        if place not in ("decoder", "encoder.attention.layer0"):
            inside = inside.replace("norm.", "bn.")
        inside = re.sub(r"^conv(\d[ab]?)\.", r"stem\1." if place == "backbone.stem" else r"cv\1.", inside)
        if name.endswith("running_var"):
            tensor = tensor - (1e-3 - 1e-5)
        if name == "decoder.denoising.embedding.weight":
            tensor = tensor[:-1]
        found.append((position, f"model.{position}.{inside}", tensor))
    return {name: tensor for _, name, tensor in sorted(found, key=lambda item: item[0])}


def _ultralytics_places(size: str) -> dict[str, int]:
    """The position in the list of each of our places."""
    places, position = {"backbone.stem": 0}, 1
    for stage, blocks in enumerate(BLOCKS[size], start=1):
        if stage > 1:
            places[f"backbone.stage{stage}.downsample"], position = position, position + 1
        for block in range(blocks):
            places[f"backbone.stage{stage}.block{block}"], position = position, position + 1
    places |= {f"encoder.{place}": position + offset for place, offset in NECK.items()}
    return places | {"decoder": position + 18}
