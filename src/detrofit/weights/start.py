"""What a training starts from: given weights, published ones where they can be had, or random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from detrofit.config.models import frame_and_choices
from detrofit.config.schema import AUTO_WEIGHTS, IMAGENET_WEIGHTS, NO_WEIGHTS
from detrofit.errors import DetrofitError
from detrofit.model.build import assemble
from detrofit.model.detector import RTDETR
from detrofit.weights.backbone import BACKBONE_ORIGINS, load_backbone
from detrofit.weights.contents import read_beside
from detrofit.weights.fetch import Patience, fetch
from detrofit.weights.foreign import read_foreign, unnamed_classes
from detrofit.weights.model_file import is_model_file, read_info, read_state
from detrofit.weights.published import Published, published_backbone, published_detector
from detrofit.weights.transfer import TransferReport, transfer
from detrofit.weights.transfer_report import require_kept

_COST = "on small data this usually costs many points of AP and many epochs"
_COST_OF_BACKBONE = "on small data this usually costs some points of AP against weights of a whole detector"


@dataclass(frozen=True)
class Source:
    """Weights to start from.

    Attributes:
        weights: as `--weights` names them.
        file: where they are on this machine.
        licence: as their publisher states it; None where only the file can tell.
        kind: what published weights are, in words; empty for given ones.
    """

    weights: str
    file: Path
    licence: str | None = None
    kind: str = ""


@dataclass(frozen=True)
class StartPlan:
    """The sources of a start, in the order in which they are loaded, and what could not be had."""

    sources: tuple[Source, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Start:
    """What a model starts from.

    Attributes:
        pretrained: what of it is pretrained now: "model", "backbone" or "nothing".
        line: the same for people.
        source: whose weights they are, in words.
        licence: of what was loaded; empty where nothing was.
        report: which tensors were taken over; None from random numbers.
        detector: whether a whole detector's weights are among them.
    """

    pretrained: str
    line: str
    source: str = ""
    licence: str = ""
    report: TransferReport | None = None
    detector: bool = False


def plan_start(model: RTDETR, name: str, weights: str) -> StartPlan:
    """Find what `weights` name for a model of the zoo, and bring it to this machine.

    `weights` are a file or folder, a URL, a name on the hub, or one of three words. "auto": the published COCO weights
    of the model called `name`, and for a backbone that they do not fit its ImageNet weights, as far as they are cached
    or reachable at once; "imagenet": those of the backbone; "none": random numbers. `model` is only looked at.
    Raises DetrofitError where something that was asked for by name cannot be had.
    """
    if weights == NO_WEIGHTS:
        return StartPlan(())
    if weights == AUTO_WEIGHTS:
        return _published(model, name)
    if weights == IMAGENET_WEIGHTS:
        backbone = published_backbone(model)
        if backbone is None:
            raise DetrofitError(
                f"nobody published ImageNet weights of the backbone '{model.slots['backbone']['part']}' with these "
                "options; swap in one of timm's with --swap backbone=timm:NAME, or give a file with --weights"
            )
        file = fetch(backbone.source)
        return StartPlan((Source(backbone.source, file, backbone.licence, "ImageNet weights of the backbone"),))
    return StartPlan((Source(weights, fetch(weights)),))


def load_start(model: RTDETR, plan: StartPlan, class_names: Sequence[str], require: Sequence[str] = ()) -> Start:
    """Load the sources of a plan into `model`.

    Nothing of any file is executed. `require` are addresses under which every tensor must be taken over. Raises
    DetrofitError for a file that is damaged, of no known program, or fits nothing in the model.
    """
    report: TransferReport | None = None
    told, origins, licences = [], [], []
    for source in plan.sources:
        origin, licence, taken = _load(model, source, class_names)
        report = taken if report is None else report.followed_by(taken)
        named = f"{source.kind} {source.weights}" if source.kind else source.weights
        told.append(f"{named} ({origin}; licence: {licence})")
        origins.append(origin)
        licences.append(licence)
    if report is None:
        if require:
            raise DetrofitError(f"--require {require[0]}: there are no weights to keep; give some with --weights")
        return Start("nothing", _line_without(plan))
    require_kept(model, report, require)
    line = f"STARTING FROM {' and '.join(told)}: {report.line()}"
    if report.pretrained == "backbone":
        line += f"; {_COST_OF_BACKBONE}"
    line += "".join(f"; {note}" for note in plan.notes)
    detector = not all(origin in BACKBONE_ORIGINS for origin in origins)
    weights = (f"{origin} {source.weights}" for origin, source in zip(origins, plan.sources))
    return Start(report.pretrained, line, "; ".join(weights), "; ".join(dict.fromkeys(licences)), report, detector)


def _published(model: RTDETR, name: str) -> StartPlan:
    """What is published for a model, without insisting: what cannot be had is a note, and one attempt is made."""
    sources: list[Source] = []
    notes: list[str] = []
    detector, backbone = published_detector(name), published_backbone(model)
    patience: Patience = "short"
    if detector is None:
        notes.append(f"nobody published weights of {name}")
    else:
        patience = _try(sources, notes, detector, "COCO weights", patience)
    if backbone is not None and (not sources or _has_another_backbone(model, name)):
        _try(sources, notes, backbone, "ImageNet weights of the backbone", patience)
    return StartPlan(tuple(sources), tuple(notes))


def _try(sources: list[Source], notes: list[str], published: Published, kind: str, patience: Patience) -> Patience:
    """Add a source or a note; after a failure nobody waits for a network again."""
    try:
        file = fetch(published.source, patience)
    except DetrofitError as error:
        notes.append(str(error))
        return "none"
    sources.append(Source(published.source, file, published.licence, kind))
    return patience


def _has_another_backbone(model: RTDETR, name: str) -> bool:
    """Whether the model has another backbone than the stock model called `name`, or other options of it."""
    with torch.device("meta"):
        stock, _ = assemble(*frame_and_choices(name), num_classes=1)
    return bool(stock.slots["backbone"] != model.slots["backbone"])


def _load(model: RTDETR, source: Source, class_names: Sequence[str]) -> tuple[str, str, TransferReport]:
    """Whose weights they are, their licence, and what was taken over."""
    file = source.file if source.file.exists() else fetch(source.weights)  # on another machine than the main process
    if file.is_file() and is_model_file(file):
        info = read_info(file)
        report = transfer(model, read_state(file), info.class_names, class_names)
        return "detrofit", source.licence or info.licence, report
    foreign = read_foreign(file)
    if foreign is not None:
        unnamed = foreign.names == unnamed_classes(len(class_names))
        report = transfer(model, foreign.state, class_names if unnamed else foreign.names, class_names)
        origin = foreign.source + (", its unnamed classes taken in their order" if unnamed else "")
        return origin, source.licence or foreign.licence, report
    origin, report = load_backbone(model, file, source.weights)
    return origin, source.licence or read_beside(file).licence or "not stated in the file", report


def _line_without(plan: StartPlan) -> str:
    if not plan.notes:
        return "starting from random numbers, as asked for"
    return (
        f"STARTING FROM RANDOM NUMBERS ({'; '.join(plan.notes)}): {_COST}; give weights with --weights, or say with "
        "--weights none that it is meant"
    )
