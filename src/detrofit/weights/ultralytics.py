"""RT-DETR checkpoints of Ultralytics (`rtdetr-l.pt`, `rtdetr-x.pt`) under our names.

They number layers in the order of a list: the backbone's, the neck's, the decoder. What a layer is shows in the names
inside it, where it stands in the order. Numerically they differ from the official models in their batch norms alone,
which add 1e-3 to the variance and not 1e-5: what is missing is added to the running variance, so that ours give the
same outputs. Their denoising embedding has no row for padding; ours is zero.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from detrofit.errors import DetrofitError
from detrofit.weights.names import NameMap, conv_and_norm
from detrofit.weights.official_decoder import decoder_name

EPS = 1e-3
_OURS = 1e-5
_STRIDES = (8, 16, 32)
_PROJECTION = re.compile(r"^(input_proj\.\d+\.)([01])\.")
_LAYER = re.compile(r"model\.([0-9]{1,4})\.(.+)")

_CONV = conv_and_norm("", "", norm="bn")
_STEM = [
    pair
    for theirs, ours in (("1", "1"), ("2a", "2a"), ("2b", "2b"), ("3", "3"), ("4", "4"))
    for pair in conv_and_norm(f"stem{theirs}.", f"conv{ours}.", norm="bn")
]
_BLOCK = [
    *conv_and_norm("m.{layer}.conv1.", "convs.{layer}.pointwise.", norm="bn"),
    *conv_and_norm("m.{layer}.conv2.", "convs.{layer}.depthwise.", norm="bn"),
    *conv_and_norm("m.{layer}.", "convs.{layer}.", norm="bn"),
    *conv_and_norm("sc.", "squeeze.", norm="bn"),
    *conv_and_norm("ec.", "excite.", norm="bn"),
]
_FUSION = [
    *conv_and_norm("cv1.", "conv1.", norm="bn"),
    *conv_and_norm("cv2.", "conv2.", norm="bn"),
    *conv_and_norm("m.{block}.conv1.", "blocks.{block}.conv3.", norm="bn"),  # the 3x3 branch
    *conv_and_norm("m.{block}.conv2.", "blocks.{block}.conv1.", norm="bn"),  # the 1x1 branch
]
_ATTENTION = [("ma.", "attention."), ("fc1.", "linear1."), ("fc2.", "linear2."), ("norm", "norm")]
_INSIDE = {
    kind: NameMap(pairs, ())
    for kind, pairs in {
        "stem": _STEM,
        "block": _BLOCK,
        "depthwise": _CONV,
        "conv": _CONV,
        "fusion": _FUSION,
        "attention": _ATTENTION,
    }.items()
}
# Where the neck's convolutions and fusion blocks belong, in their order.
_NECK = {
    "conv": (
        "input_projection.stride32",
        "fusion.lateral.stride32",
        "input_projection.stride16",
        "fusion.lateral.stride16",
        "input_projection.stride8",
        "fusion.downsample.stride16",
        "fusion.downsample.stride32",
    ),
    "fusion": (
        "fusion.top_down.stride16",
        "fusion.top_down.stride8",
        "fusion.bottom_up.stride16",
        "fusion.bottom_up.stride32",
    ),
}


def is_ultralytics(names: Mapping[str, Tensor]) -> bool:
    """Whether tensors have the names of such a model with an HGNetv2 backbone."""
    return "model.0.stem1.conv.weight" in names and any(".enc_score_head." in name for name in names)


def from_ultralytics(state: Mapping[str, Tensor], eps: float = EPS) -> dict[str, Tensor]:
    """The tensors of an Ultralytics RT-DETR with an HGNetv2 under our names, in float32.

    Args:
        eps: what its batch norms add to the variance.

    Raises DetrofitError for a name that no such model has.
    """
    layers = _layers(state)
    renamed: dict[str, Tensor] = {}
    for place, (kind, entries) in _places(layers):
        for name, tensor in entries.items():
            renamed[_our_name(kind, place, name)] = tensor.float() if tensor.is_floating_point() else tensor
    for name, tensor in renamed.items():
        if name.endswith("running_var"):
            renamed[name] = tensor + (eps - _OURS)
    embedding = renamed.get("decoder.denoising.embedding.weight")
    if embedding is not None:
        renamed["decoder.denoising.embedding.weight"] = torch.cat([embedding, torch.zeros_like(embedding[:1])])
    return renamed


_Layer = tuple[str, dict[str, Tensor]]


def _layers(state: Mapping[str, Tensor]) -> list[_Layer]:
    """The kind and tensors of each numbered layer, in order."""
    grouped: dict[int, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        match = _LAYER.fullmatch(name)
        if match is None:
            raise DetrofitError(f"'{name}' is no entry of an Ultralytics RT-DETR")
        grouped.setdefault(int(match.group(1)), {})[match.group(2)] = tensor
    return [(_kind(grouped[number]), grouped[number]) for number in sorted(grouped)]


def _kind(entries: Mapping[str, Tensor]) -> str:
    signs = {"stem1.conv.weight": "stem", "sc.conv.weight": "block", "fc1.weight": "attention"}
    signs |= {"cv1.conv.weight": "fusion", "enc_score_head.weight": "decoder"}
    for name, kind in signs.items():
        if name in entries:
            return kind
    if "conv.weight" not in entries:
        raise DetrofitError("a layer of this Ultralytics model is of a kind that its RT-DETR with HGNetv2 has not")
    return "depthwise" if entries["conv.weight"].shape[1] == 1 else "conv"


def _places(layers: list[_Layer]) -> Iterator[tuple[str, _Layer]]:
    """Our name of each layer, told from the order."""
    stage, block = 1, 0
    met = {"conv": 0, "fusion": 0}
    for kind, entries in layers:
        if kind == "depthwise":
            stage, block = stage + 1, 0
            place = f"backbone.stage{stage}.downsample"
        elif kind == "block":
            place, block = f"backbone.stage{stage}.block{block}", block + 1
        elif kind in met:
            if met[kind] == len(_NECK[kind]):
                raise DetrofitError("this Ultralytics model has more layers in its neck than its RT-DETR")
            place = f"encoder.{_NECK[kind][met[kind]]}"
            met[kind] += 1
        else:
            place = {"stem": "backbone.stem", "attention": "encoder.attention.layer0", "decoder": "decoder"}[kind]
        yield place, (kind, entries)


def _official_projection(match: re.Match[str]) -> str:
    return f"{match.group(1)}{'conv' if match.group(2) == '0' else 'norm'}."


def _our_name(kind: str, place: str, name: str) -> str:
    inside: str | None
    if kind == "decoder":
        inside = decoder_name(_PROJECTION.sub(_official_projection, name), _STRIDES)
    else:
        inside = _INSIDE[kind].ours(name)
    if inside is None:
        raise DetrofitError(f"'{name}' is no entry of an Ultralytics RT-DETR's {kind}")
    return f"{place}.{inside}"
