"""What a training starts from: a model file of ours, or pretrained weights of a timm backbone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from detrofit.errors import DetrofitError
from detrofit.model.detector import RTDETR
from detrofit.weights.checkpoint import read_tensors
from detrofit.weights.model_file import is_model_file, read_info
from detrofit.weights.transfer import transfer

HUB = "imagenet"


def load_start_weights(model: RTDETR, weights: str, class_names: tuple[str, ...]) -> tuple[str, str]:
    """Load starting weights into `model`; what of it is pretrained now ("model" or "backbone"), and a line for people.

    `weights` is a model file of ours, a file of timm's weights for the model's timm backbone (.safetensors, or .pth
    read without executing anything), or "imagenet": timm's published weights for it, from the hub.
    Raises DetrofitError for a file that is missing, damaged, or fits nothing in the model.
    """
    if weights != HUB and not Path(weights).is_file():
        raise DetrofitError(f"weights {weights} do not exist; give a file, or '{HUB}' for a timm backbone's")
    if weights != HUB and is_model_file(Path(weights)):
        report = transfer(model, read_tensors(Path(weights)), read_info(weights).class_names, class_names)
        return "model", f"starting from {weights}: {report.line()}"
    state = None if weights == HUB else read_tensors(Path(weights))
    if not hasattr(model.backbone, "timm_arguments"):
        raise DetrofitError(
            f"{weights} is no model file of ours, and the backbone is none of timm's that could take it; "
            "swap one in with --swap backbone=timm:NAME"
        )
    state = _hub_state(model.backbone) if state is None else state
    return "backbone", f"backbone starting from {weights}: {_load_backbone(model.backbone, state, weights)}"


def _hub_state(backbone: Any) -> dict[str, Tensor]:
    import timm

    try:
        return timm.create_model(backbone.timm_arguments["model_name"], pretrained=True).state_dict()
    except Exception as error:  # the hub's client raises many kinds
        raise DetrofitError(
            f"timm's weights of {backbone.timm_arguments['model_name']} cannot be had: {str(error).splitlines()[0]}; "
            "give a local file with --weights"
        ) from error


def _load_backbone(backbone: Any, state: Mapping[str, Tensor], source: str) -> str:
    """Load what the backbone has; names of a feature extractor may have underscores where the whole model has dots."""
    own = backbone.net.state_dict()
    by_flat_name = {name.replace(".", "_"): tensor for name, tensor in state.items()}
    found = {name: by_flat_name[name.replace(".", "_")] for name in own if name.replace(".", "_") in by_flat_name}
    missing = [name for name in own if name not in found and not name.endswith("num_batches_tracked")]
    wrong = [name for name, tensor in found.items() if tensor.shape != own[name].shape]
    if missing or wrong:
        first = (missing or wrong)[0]
        raise DetrofitError(
            f"{source} does not fit timm backbone '{backbone.timm_arguments['model_name']}': "
            f"{'no' if missing else 'another shape of'} tensor '{first}'"
        )
    backbone.net.load_state_dict({**own, **found})
    return f"all {len(own)} tensors"
