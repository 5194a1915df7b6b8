"""Weights of a backbone alone: official ImageNet files of ResNet-vd and HGNetv2, and timm's for its networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from detrofit.errors import DetrofitError
from detrofit.model.detector import RTDETR
from detrofit.weights.contents import read_plain
from detrofit.weights.names import with_batch_counts
from detrofit.weights.official import backbone_names
from detrofit.weights.transfer import TransferReport, transfer

BACKBONE_ORIGINS = (OFFICIAL, TIMM) = ("official backbone", "timm")
_OFFICIAL = ("conv1.conv1_1.", "stem.stem1.")


def load_backbone(model: RTDETR, file: Path, named: str) -> tuple[str, TransferReport]:
    """Load a backbone's weights into a model; whose they are, and what was taken over.

    Raises DetrofitError for a file of no known backbone, or one that does not fit the model's. `named` is what people
    call the file.
    """
    state = read_plain(file)
    if is_official_backbone(state):
        return OFFICIAL, _take(model, _from_official(state), named)
    if hasattr(model.backbone, "timm_arguments"):
        return TIMM, _take(model, _from_timm(model.backbone, state, named), named)
    raise DetrofitError(
        f"{named} is no detector that is known, nor an official ResNet-vd or HGNetv2, and the backbone is none of "
        "timm's that could take it; swap one in with --swap backbone=timm:NAME"
    )


def is_official_backbone(state: Iterable[str]) -> bool:
    """Whether names of tensors are those of an official ResNet-vd or HGNetv2."""
    return any(name.startswith(_OFFICIAL) for name in state)


def _take(model: RTDETR, state: Mapping[str, Tensor], named: str) -> TransferReport:
    try:
        return transfer(model, {f"backbone.{name}": tensor for name, tensor in state.items()}, (), ())
    except DetrofitError:
        raise DetrofitError(f"{named} holds another backbone than the model's: no tensor fits") from None


def _from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names relative to the backbone; a classifier's tensors have none and are left out."""
    names = backbone_names(state)
    renamed = {names.ours(name): tensor for name, tensor in state.items()}
    return with_batch_counts({name: tensor for name, tensor in renamed.items() if name is not None})


def _from_timm(backbone: Any, state: Mapping[str, Tensor], named: str) -> dict[str, Tensor]:
    """Names of a feature extractor, which may have underscores where the whole model has dots."""
    own = backbone.net.state_dict()
    by_flat_name = {name.replace(".", "_"): tensor for name, tensor in state.items()}
    found = {name: by_flat_name[name.replace(".", "_")] for name in own if name.replace(".", "_") in by_flat_name}
    missing = [name for name in own if name not in found and not name.endswith("num_batches_tracked")]
    wrong = [name for name, tensor in found.items() if tensor.shape != own[name].shape]
    if missing or wrong:
        raise DetrofitError(
            f"{named} does not fit timm backbone '{backbone.timm_arguments['model_name']}': "
            f"{'no' if missing else 'another shape of'} tensor '{(missing or wrong)[0]}'"
        )
    return {f"net.{name}": tensor for name, tensor in found.items()}
