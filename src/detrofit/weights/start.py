"""What a training starts from: a model file of ours, another program's, or pretrained weights of a timm backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from detrofit.errors import DetrofitError
from detrofit.model.detector import RTDETR
from detrofit.weights.checkpoint import read_tensors
from detrofit.weights.foreign import read_foreign
from detrofit.weights.model_file import is_model_file, read_info
from detrofit.weights.transfer import TransferReport, transfer
from detrofit.weights.transfer_report import require_kept

HUB = "imagenet"


@dataclass(frozen=True)
class Start:
    """What a model starts from.

    Attributes:
        pretrained: what of it is pretrained now: "model" or "backbone".
        line: the same for people.
        source: whose weights they are.
        report: which tensors were taken over.
    """

    pretrained: str
    line: str
    source: str
    report: TransferReport


def load_start_weights(model: RTDETR, weights: str, class_names: tuple[str, ...], require: Sequence[str] = ()) -> Start:
    """Load starting weights into `model`.

    `weights` is a model file of ours, a checkpoint of another program that is known (a file, or a Hugging Face
    folder), a file of timm's weights for the model's timm backbone, or "imagenet": timm's published weights for it,
    from the hub. Nothing of any file is executed. `require` are addresses under which every tensor must be taken over.
    Raises DetrofitError for a file that is missing, damaged, or fits nothing in the model.
    """
    path = Path(weights)
    if weights != HUB and not path.exists():
        raise DetrofitError(f"weights {weights} do not exist; give a file, or '{HUB}' for a timm backbone's")
    start = None if weights == HUB else _start_of_model(model, path, class_names)
    start = start or _start_of_backbone(model, weights)
    require_kept(start.report, require)
    return start


def _start_of_model(model: RTDETR, path: Path, class_names: tuple[str, ...]) -> Start | None:
    """The start from a whole detector; None where the file holds none."""
    if path.is_file() and is_model_file(path):
        report = transfer(model, read_tensors(path), read_info(path).class_names, class_names)
        return Start("model", f"starting from {path}: {report.line()}", "detrofit", report)
    foreign = read_foreign(path)
    if foreign is None:
        return None
    report = transfer(model, foreign.state, foreign.names, class_names)
    line = f"starting from {path} ({foreign.source}; licence: {foreign.licence}): {report.line()}"
    return Start("model", line, foreign.source, report)


def _start_of_backbone(model: RTDETR, weights: str) -> Start:
    if not hasattr(model.backbone, "timm_arguments"):
        raise DetrofitError(
            f"{weights} is no detector that is known, and the backbone is none of timm's that could take it; "
            "swap one in with --swap backbone=timm:NAME"
        )
    state = _hub_state(model.backbone) if weights == HUB else read_tensors(Path(weights))
    line = f"backbone starting from {weights}: {_load_backbone(model.backbone, state, weights)}"
    return Start("backbone", line, "timm", _backbone_report(model))


def _backbone_report(model: RTDETR) -> TransferReport:
    """The report of a whole timm backbone taken over, and nothing else."""
    names = list(model.state_dict())
    kept = [name for name in names if name.startswith("backbone.")]
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    share = sum(sizes.get(name, 0) for name in kept) / max(1, sum(sizes.values()))
    return TransferReport(kept, [], [name for name in names if not name.startswith("backbone.")], share)


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
