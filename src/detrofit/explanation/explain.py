"""All explanations of models on pictures, as panels and numbers in a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from detrofit.drawing import PALETTE, colour_of
from detrofit.errors import DetrofitError
from detrofit.explanation.drise import d_rise
from detrofit.explanation.explained import ExplainedModel
from detrofit.explanation.features import ReceptiveField, feature_map, receptive_field, slot_output
from detrofit.explanation.panels import FORMATS, PAGE_WIDTH, Panel, PanelBox, PanelPoints, save_panels
from detrofit.explanation.queries import QueryDetections, gradient_saliency, level_of, sampling_points
from detrofit.files import write_file
from detrofit.model.places import names_at
from detrofit.parts.retrofit import expand_address

_STAGES = ("backbone.stage1", "backbone.stage2", "backbone.stage3", "backbone.stage4")
Truth = tuple[np.ndarray, Sequence[str]]  # boxes xyxy in pixels of the picture, and their classes


@dataclass(frozen=True)
class ExplainSettings:
    """What to explain and how to draw it.

    Attributes:
        most: objects of a picture whose best detections are explained, surest first.
        threshold: their lowest score; None for the file's own.
        masks: of D-RISE, for each picture and model; 0 leaves it out.
        stride: of the level whose gradients are shown; None for the finest.
        slots: addresses whose maps and receptive fields are shown; of several places with one address the last, and
            those that a model lacks are left out for it. By default the stages.
        width: of the figures in inches.
        formats: of the figures.
    """

    most: int = 3
    threshold: float | None = None
    masks: int = 500
    stride: int | None = None
    slots: Sequence[str] = ()
    width: float = PAGE_WIDTH
    formats: Sequence[str] = FORMATS


DEFAULTS = ExplainSettings()


@dataclass(frozen=True)
class Explained:
    """The files that were written, and the receptive field of each model's slots in pixels of its input."""

    files: list[Path]
    receptive_fields: Mapping[str, Mapping[str, ReceptiveField]]


def explain(
    models: Sequence[ExplainedModel],
    pictures: Mapping[str, np.ndarray],
    out: Path,
    settings: ExplainSettings = DEFAULTS,
    *,
    truth: Mapping[str, Truth] | None = None,
    advance: Callable[[int], None] = lambda done: None,
) -> Explained:
    """Write the panels of `models` on `pictures` (uint8 `[H,W,3]` by name) to the folder `out`.

    Models of ours show saliency by hiding and by gradients, sampling points, feature maps and receptive fields; of
    exported files there are detections and saliency by hiding. `truth` holds the objects of pictures that have them;
    `advance` is told what is done of `amount`. Raises DetrofitError for a stride or an address that no model has, or
    one where no map comes out, before anything is written.
    """
    if not models or not pictures:
        raise DetrofitError("give at least one model and one picture to explain")
    own = [each for each in models if each.model is not None]
    _check(own, settings, next(iter(pictures.values())))
    drawing = _Drawing(out, settings, advance)
    found = {(each.name, name): each.detections(picture, settings.threshold)
             for each in models for name, picture in pictures.items()}  # fmt: skip
    drawing.detections(models, pictures, found, truth or {})
    for each in models:
        for name, picture in pictures.items():
            chosen = found[each.name, name].distinct(settings.most)
            drawing.saliency(each, name, picture, chosen)
            if each.model is not None:
                drawing.points(each, name, picture, chosen)
    fields = drawing.slots(own, pictures) if own else {}
    return Explained(drawing.files, fields)


def amount(models: Sequence[ExplainedModel], pictures: int, settings: ExplainSettings = DEFAULTS) -> int:
    """How much there is to do: the masks of D-RISE, and each picture for each receptive field."""
    return pictures * sum(settings.masks + len(_addresses(each, settings)) for each in models)


def _addresses(each: ExplainedModel, settings: ExplainSettings) -> dict[str, str]:
    """The addresses that are shown of a model, each with the name of its module, the last where there are several."""
    if each.model is None:
        return {}
    names = {address: names_at(each.model, address) for address in _expanded(settings.slots or _STAGES)}
    return {address: there[-1] for address, there in names.items() if there}


def _expanded(addresses: Sequence[str]) -> list[str]:
    return [single for address in addresses for single in expand_address(address)]


@torch.no_grad()
def _check(models: Sequence[ExplainedModel], settings: ExplainSettings, picture: np.ndarray) -> None:
    if not models and (settings.slots or settings.stride is not None):
        raise DetrofitError("exported files have no slots and levels to show; give a .safetensors file for those")
    shown = [_addresses(each, settings) for each in models]
    for address in _expanded(settings.slots):
        if not any(address in addresses for addresses in shown):
            raise DetrofitError(f"no model has anything at '{address}'; `detrofit slots` lists a model's addresses")
    for each, addresses in zip(models, shown):
        assert each.model is not None
        if settings.stride is not None:
            level_of(each.model, settings.stride)
        for address in addresses:
            slot_output(each.model, address, each.tensor(picture)[None])


class _Drawing:
    """The figures of a folder."""

    def __init__(self, out: Path, settings: ExplainSettings, advance: Callable[[int], None]) -> None:
        self.out, self.settings, self.advance = out, settings, advance
        self.files: list[Path] = []

    def detections(
        self,
        models: Sequence[ExplainedModel],
        pictures: Mapping[str, np.ndarray],
        found: Mapping[tuple[str, str], QueryDetections],
        truth: Mapping[str, Truth],
    ) -> None:
        """A row for each picture: what is there, where that is known, and what each model finds."""
        rows = []
        for name, picture in pictures.items():
            row: list[Panel | None] = []
            if truth:
                boxes, classes = truth.get(name, (np.zeros((0, 4)), ()))
                labels = {said: label for label, said in enumerate(models[0].backend.class_names)}
                known = [
                    PanelBox(box, said, colour_of(labels.get(said, len(labels))))
                    for box, said in zip(boxes.tolist(), classes)
                ]
                row.append(Panel(picture, "ground truth" if name in truth else "(not labelled)", known))
            for each in models:
                row.append(Panel(picture, each.name, _boxes(each, picture, found[each.name, name])))
            rows.append(row)
        self._save(rows, "panels")

    def saliency(self, each: ExplainedModel, name: str, picture: np.ndarray, found: QueryDetections) -> None:
        """A row for each detection: by hiding, and by the gradients of a level."""
        hidden = None
        if self.settings.masks:
            hidden = d_rise(
                each.backend,
                each.resized(picture),
                found.boxes_xyxy,
                found.labels,
                masks=self.settings.masks,
                advance=self.advance,
            )
        rows = []
        for number, box in enumerate(_boxes(each, picture, found)):
            row: list[Panel | None] = [] if hidden is None else [Panel(picture, "D-RISE", [box], hidden[number])]
            if each.model is not None:
                stride = self.settings.stride or each.model.frame.strides[0]
                heat = gradient_saliency(
                    each.model, each.tensor(picture), int(found.queries[number]), int(found.labels[number]), stride
                )
                row.append(Panel(picture, f"gradients, stride {stride}", [box], heat))
            rows.append(row)
        if rows[0]:
            self._save(rows, f"saliency-{name}-{each.name}")

    def points(self, each: ExplainedModel, name: str, picture: np.ndarray, found: QueryDetections) -> None:
        """A row for each detection, a column for each decoder layer: where its query reads, a colour for each level."""
        assert each.model is not None
        height, width = picture.shape[:2]
        strides = each.model.frame.strides
        rows = []
        layers_of = sampling_points(each.model, each.tensor(picture), found.queries)
        for box, layers in zip(_boxes(each, picture, found), layers_of):
            row: list[Panel | None] = []
            for number, layer in enumerate(layers):
                places = layer.locations.reshape(-1, 2) * (width, height)
                colours = [PALETTE[level] for _ in layer.locations for level in layer.levels]
                shares = [layer.weights[:, layer.levels == level].sum() for level in range(len(strides))]
                told = ", ".join(
                    f"{stride}: {share / len(layer.weights):.0%}" for stride, share in zip(strides, shares)
                )
                title = f"layer {number} (stride {told})"
                row.append(Panel(picture, title, [box], points=PanelPoints(places, layer.weights.ravel(), colours)))
            rows.append(row)
        self._save(rows, f"points-{name}-{each.name}")

    def slots(
        self, models: Sequence[ExplainedModel], pictures: Mapping[str, np.ndarray]
    ) -> dict[str, dict[str, ReceptiveField]]:
        """Feature maps of the first picture, and receptive fields over all: a row for each model, a column a slot."""
        first = next(iter(pictures.values()))
        maps, seen = [], []
        fields: dict[str, dict[str, ReceptiveField]] = {}
        for each in models:
            assert each.model is not None
            images = [each.tensor(picture) for picture in pictures.values()]
            chosen = _addresses(each, self.settings)
            if not chosen:
                continue
            fields[each.name] = {
                address: receptive_field(each.model, name, images, self.advance) for address, name in chosen.items()
            }
            heats = {address: feature_map(each.model, name, images[0]) for address, name in chosen.items()}
            maps.append([Panel(first, address, heat=heat) for address, heat in heats.items()])
            seen.append([_field_panel(address, field) for address, field in fields[each.name].items()])
        if not fields:
            return {}
        names = list(fields)
        self._save(maps, "features", names)
        self._save(seen, "receptive-fields", names)
        numbers = {
            name: {address: {"side50": each.side, "side95": each.side95} for address, each in of_model.items()}
            for name, of_model in fields.items()
        }
        self.files.append(write_file(self.out / "receptive-fields.json", json.dumps(numbers, indent=1) + "\n"))
        return fields

    def _save(self, rows: Sequence[Sequence[Panel | None]], stem: str, row_titles: Sequence[str] = ()) -> None:
        settings = self.settings
        self.files += save_panels(
            rows, self.out / stem, row_titles=row_titles, width=settings.width, formats=settings.formats
        )


def _boxes(each: ExplainedModel, picture: np.ndarray, found: QueryDetections) -> list[PanelBox]:
    height, width = picture.shape[:2]
    names = each.backend.class_names
    return [
        PanelBox((box * (width, height, width, height)).tolist(), f"{names[label]} {score:.2f}", colour_of(int(label)))
        for box, score, label in zip(found.boxes_xyxy, found.scores, found.labels)
    ]


def _field_panel(address: str, field: ReceptiveField) -> Panel:
    """The contribution of each pixel, darkest at most, with the square that holds half."""
    # The fourth root shows the tails, which the eye would not see beside the peak.
    shown = (field.contribution / max(float(field.contribution.max()), 1e-30)) ** 0.25
    (y, x), half = field.centre, field.side / 2
    square = PanelBox((x + 0.5 - half, y + 0.5 - half, x + 0.5 + half, y + 0.5 + half), "", PALETTE[3])
    picture = np.repeat((255 * (1 - shown)).astype(np.uint8)[..., None], 3, axis=2)
    return Panel(picture, f"{address}: {field.side:.0f} px", [square])
