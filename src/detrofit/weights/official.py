"""Official RT-DETR checkpoints, v1 and v2 (github.com/lyuwenyu/RT-DETR), under our names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from detrofit.errors import DetrofitError
from detrofit.weights.names import NameMap, conv_and_norm, count_indices, strides_of, with_batch_counts
from detrofit.weights.official_decoder import decoder_name

_BLOCK = ("res_layers.{stage}.blocks.{block}.", "stage{stage}.block{block}.")
_HG_STAGE = ("stages.{stage}.", "stage{stage}.")
_HG_BLOCK = ("stages.{stage}.blocks.{block}.", "stage{stage}.block{block}.")

# Where a basic block has its first two branches, a bottleneck has its first two of three.
_BRANCHES = {
    "basic": {"branch2a": "conv1", "branch2b": "conv2"},
    "bottleneck": {"branch2a": "reduce", "branch2b": "conv", "branch2c": "expand"},
}

RESIDUAL_BLOCK = {
    kind: [(f"{branch}.", f"{ours}.") for branch, ours in branches.items()]
    + [("short.conv.conv.", "shortcut.projection.conv."), ("short.conv.norm.", "shortcut.projection.norm.")]
    + [("short.", "shortcut.")]
    for kind, branches in _BRANCHES.items()
}

_HGNETV2 = [
    *conv_and_norm("stem.stem1.", "stem.conv1.", norm="bn"),
    # The 2x2 convolutions stand behind their padding.
    *conv_and_norm("stem.stem2a.", "stem.conv2a.", conv="conv.1", norm="bn"),
    *conv_and_norm("stem.stem2b.", "stem.conv2b.", conv="conv.1", norm="bn"),
    *conv_and_norm("stem.stem3.", "stem.conv3.", norm="bn"),
    *conv_and_norm("stem.stem4.", "stem.conv4.", norm="bn"),
    *conv_and_norm(_HG_STAGE[0] + "downsample.", _HG_STAGE[1] + "downsample.", norm="bn"),
    *conv_and_norm(_HG_BLOCK[0] + "layers.{layer}.conv1.", _HG_BLOCK[1] + "convs.{layer}.pointwise.", norm="bn"),
    *conv_and_norm(_HG_BLOCK[0] + "layers.{layer}.conv2.", _HG_BLOCK[1] + "convs.{layer}.depthwise.", norm="bn"),
    *conv_and_norm(_HG_BLOCK[0] + "layers.{layer}.", _HG_BLOCK[1] + "convs.{layer}.", norm="bn"),
    *conv_and_norm(_HG_BLOCK[0] + "aggregation_squeeze_conv.", _HG_BLOCK[1] + "squeeze.", norm="bn"),
    *conv_and_norm(_HG_BLOCK[0] + "aggregation_excitation_conv.", _HG_BLOCK[1] + "excite.", norm="bn"),
]

CSP_REP = [
    ("bottlenecks.{block}.conv1.", "blocks.{block}.conv3."),  # the 3x3 branch
    ("bottlenecks.{block}.conv2.", "blocks.{block}.conv1."),  # the 1x1 branch
    ("conv1.", "conv1."),
    ("conv2.", "conv2."),
    ("conv3.", "conv3."),
]


def fusion_pairs(ours: str) -> list[tuple[str, str]]:
    """The pairs of the cross-scale fusion, whose name is `ours` in ours."""
    return [
        ("lateral_convs.{coarse}.", ours + "lateral.stride{coarse}."),
        ("downsample_convs.{raised}.", ours + "downsample.stride{raised}."),
        *((f"fpn_blocks.{{fine}}.{a}", f"{ours}top_down.stride{{fine}}.{b}") for a, b in CSP_REP),
        *((f"pan_blocks.{{raised}}.{a}", f"{ours}bottom_up.stride{{raised}}.{b}") for a, b in CSP_REP),
    ]


_ENCODER = [
    *conv_and_norm("input_proj.{level}.", "input_projection.stride{level}.", conv="0", norm="1"),
    *conv_and_norm("input_proj.{level}.", "input_projection.stride{level}."),
    ("encoder.0.layers.{layer}.self_attn.", "attention.layer{layer}.attention."),
    ("encoder.0.layers.{layer}.", "attention.layer{layer}."),
    *fusion_pairs("fusion."),
]


def backbone_names(names: Iterable[str]) -> NameMap:
    """The map of an official backbone's names, relative to it; `names` tell which kind of blocks it has."""
    kind = "bottleneck" if any(".branch2c." in name for name in names) else "basic"
    blocks = [(_BLOCK[0] + theirs, _BLOCK[1] + ours) for theirs, ours in RESIDUAL_BLOCK[kind]]
    return NameMap([("conv1.conv1_{convolution}.", "stem.conv{convolution}."), *blocks, *_HGNETV2], ())


def encoder_names(names: Iterable[str]) -> NameMap:
    """The map of an official hybrid encoder's names, relative to it; `names` tell how many levels it has."""
    return NameMap(_ENCODER, strides_of(count_indices(names, r"input_proj\.([0-9])\.")))


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an official model under our names.

    Counters that frozen norms lack are added; constants that we compute are left out. Raises DetrofitError for a name
    that no official model has.
    """
    translate = _Translation(state)
    renamed = {translate(name): tensor for name, tensor in state.items()}
    return with_batch_counts({name: tensor for name, tensor in renamed.items() if name is not None})


class _Translation:
    """Our name of each of a checkpoint's names, or None for a constant that we compute."""

    def __init__(self, names: Iterable[str]) -> None:
        names = list(names)
        self._backbone = backbone_names(names)
        self._encoder = encoder_names(_inside(names, "encoder."))
        self._strides = strides_of(count_indices(names, r"encoder\.input_proj\.([0-9])\."))

    def __call__(self, name: str) -> str | None:
        room, _, inside = name.partition(".")
        if room == "decoder":
            ours = decoder_name(inside, self._strides)
            return None if ours is None else f"decoder.{ours}"
        maps = {"backbone": self._backbone, "encoder": self._encoder}
        found = maps[room].ours(inside) if room in maps else None
        if found is None:
            raise DetrofitError(f"'{name}' is no entry of an official RT-DETR; is the checkpoint of another model?")
        return f"{room}.{found}"


def _inside(names: Iterable[str], beginning: str) -> list[str]:
    return [name.removeprefix(beginning) for name in names if name.startswith(beginning)]
