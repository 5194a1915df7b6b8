"""RT-DETR and RT-DETRv2 of Hugging Face transformers: their checkpoints under our names, and ours under theirs."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from itertools import chain

import torch
from torch import Tensor

from detrofit.errors import DetrofitError
from detrofit.weights.names import NameMap, conv_and_norm, count_indices, strides_of, with_batch_counts
from detrofit.weights.official import fusion_pairs

_BACKBONE = "model.backbone.model."
_BLOCK = (_BACKBONE + "encoder.stages.{stage}.layers.{block}.", "backbone.stage{stage}.block{block}.")
_BRANCHES = {"basic": ("conv1", "conv2"), "bottleneck": ("reduce", "conv", "expand")}

_ENCODER_LAYER = ("model.encoder.encoder.0.layers.{layer}.", "encoder.attention.layer{layer}.")
_DECODER_LAYER = ("model.decoder.layers.{layer}.", "decoder.layer{layer}.")

_PAIRS = [
    *conv_and_norm("model.encoder_input_proj.{level}.", "encoder.input_projection.stride{level}.", "0", "1"),
    *(
        (_ENCODER_LAYER[0] + theirs, _ENCODER_LAYER[1] + ours)
        for theirs, ours in (
            ("self_attn.", "attention."),
            ("self_attn_layer_norm.", "norm1."),
            ("fc1.", "linear1."),
            ("fc2.", "linear2."),
            ("final_layer_norm.", "norm2."),
        )
    ),
    *((f"model.encoder.{theirs}", ours) for theirs, ours in fusion_pairs("encoder.fusion.")),
    *conv_and_norm("model.decoder_input_proj.{level}.", "decoder.input_projection.stride{level}.", "0", "1"),
    ("model.enc_output.0.", "decoder.query_selection.projection."),
    ("model.enc_output.1.", "decoder.query_selection.norm."),
    ("model.enc_score_head.", "decoder.query_selection.score_head."),
    ("model.enc_bbox_head.", "decoder.query_selection.box_head."),
    ("model.denoising_class_embed.", "decoder.denoising.embedding."),
    ("model.decoder.query_pos_head.", "decoder.query_position."),
    ("model.decoder.class_embed.{layer}.", "decoder.score_head.layer{layer}."),
    ("model.decoder.bbox_embed.{layer}.", "decoder.box_head.layer{layer}."),
    *(
        (_DECODER_LAYER[0] + theirs, _DECODER_LAYER[1] + ours)
        for theirs, ours in (
            ("self_attn.", "self_attention."),
            ("self_attn_layer_norm.", "norm1."),
            ("encoder_attn.value_proj.", "cross_attention.value_projection."),
            ("encoder_attn.output_proj.", "cross_attention.output_projection."),
            ("encoder_attn.", "cross_attention."),
            ("encoder_attn_layer_norm.", "norm2."),
            ("fc1.", "linear1."),
            ("fc2.", "linear2."),
            ("final_layer_norm.", "norm3."),
        )
    ),
]

# Names inside a model of transformers 5, and copies of the heads beside the decoder, as checkpoints have them.
_AS_IN_CHECKPOINTS = (
    (re.compile(r"^model\.encoder\.aifi\."), "model.encoder.encoder."),
    (re.compile(r"\.mlp\.(fc[12]\.)"), r".\1"),
    (re.compile(r"\.self_attn\.o_proj\."), ".self_attn.out_proj."),
    (re.compile(r"^(class_embed|bbox_embed)\."), r"model.decoder.\1."),
)
_THIRD_BRANCH = re.compile(re.escape(_BACKBONE) + r"encoder\.stages\.\d+\.layers\.\d+\.layer\.2\.")
_LEVEL = re.compile(r"encoder\.input_projection\.stride(\d+)\.")
# Constants that follow from the configuration.
_DERIVED = re.compile(r"model\.(anchors|valid_mask|decoder\.layers\.\d+\.encoder_attn\.n_points_scale)$")
# Query, key and value have a projection each there, and one for all of them here.
_SEPARATE = re.compile(r"(.*)\.([qkv])_proj\.(weight|bias)$")
_TOGETHER = re.compile(r"(.*)\.in_proj_(weight|bias)$")


def from_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an RTDetrForObjectDetection or RTDetrV2ForObjectDetection under our names.

    `state` comes from a checkpoint or from `state_dict()`. Counters that frozen norms lack are added; constants that
    we compute are left out. Raises DetrofitError for a name that no such model with a ResNet has.
    """
    # Where heads stand twice, the decoder reads those inside `model.`, which come last here and stay.
    names = sorted((name for name in state if not _DERIVED.match(name)), key=lambda name: name.startswith("model."))
    given = {_as_in_checkpoint(name): state[name] for name in names}
    kind = "bottleneck" if any(_THIRD_BRANCH.match(name) for name in given) else "basic"
    strides = strides_of(count_indices(given, r"model\.encoder_input_proj\.([0-9])\."))
    name_map = NameMap([*_PAIRS, *_backbone_pairs(kind)], strides)
    renamed: dict[str, Tensor] = {}
    for name, tensor in _joined(given).items():
        ours = name_map.ours(name)
        if ours is None:
            raise DetrofitError(f"'{name}' is no entry of transformers' RT-DETR with a ResNet")
        renamed[ours] = tensor
    return with_batch_counts(renamed)


def to_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a model of ours as a checkpoint that transformers' `from_pretrained` reads.

    Raises DetrofitError for a tensor of a part that transformers has no counterpart of.
    """
    strides = {int(match.group(1)) for name in state if (match := _LEVEL.match(name))}
    pairs = [*_PAIRS, *_backbone_pairs("basic"), *_backbone_pairs("bottleneck")]
    names = NameMap(pairs, sorted(strides))
    renamed: dict[str, Tensor] = {}
    for name, tensor in _split(state).items():
        theirs = names.theirs(name)
        if theirs is None:
            raise DetrofitError(f"transformers' RT-DETR has no counterpart of '{name}'; it has stock parts only")
        renamed[theirs] = tensor
    return renamed


def _backbone_pairs(kind: str) -> list[tuple[str, str]]:
    stem = conv_and_norm(
        _BACKBONE + "embedder.embedder.{position}.", "backbone.stem.conv{position}.", "convolution", "normalization"
    )
    inside = [(f"layer.{index}.", f"{branch}.") for index, branch in enumerate(_BRANCHES[kind])]
    inside += [("shortcut.1.", "shortcut.projection."), ("shortcut.", "shortcut.")]
    blocks = [
        conv_and_norm(_BLOCK[0] + theirs, _BLOCK[1] + ours, "convolution", "normalization") for theirs, ours in inside
    ]
    return [*stem, *chain.from_iterable(blocks)]


def _as_in_checkpoint(name: str) -> str:
    for pattern, replacement in _AS_IN_CHECKPOINTS:
        name = pattern.sub(replacement, name)
    return name


def _joined(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state with the projections of query, key and value in one tensor, in this order."""
    result: dict[str, Tensor] = {}
    projections: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in state.items():
        match = _SEPARATE.match(name)
        if match:
            projections[f"{match.group(1)}.in_proj_{match.group(3)}"][match.group(2)] = tensor
        else:
            result[name] = tensor
    for name, found in projections.items():
        missing = [f"'{which}_proj'" for which in "qkv" if which not in found]
        if missing:
            raise DetrofitError(f"the checkpoint lacks {missing[0]} beside {name.rpartition('.')[0]}; is it complete?")
        result[name] = torch.cat([found[which] for which in "qkv"])
    return result


def _split(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state with a tensor each for query, key and value."""
    result: dict[str, Tensor] = {}
    for name, tensor in state.items():
        match = _TOGETHER.match(name)
        if match:
            for which, part in zip("qkv", tensor.chunk(3)):
                result[f"{match.group(1)}.{which}_proj.{match.group(2)}"] = part.clone()
        else:
            result[name] = tensor
    return result
