"""What may be grafted where: the slots of a trained model, and candidates of the catalogue for each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from detrofit.distillation.replaced import Place, places_of, under
from detrofit.distillation.swap import State, with_swaps
from detrofit.errors import DetrofitError, nearest
from detrofit.model.detector import RTDETR
from detrofit.parts.retrofit import PartChoice, expand_address, parse_choice
from detrofit.parts.slots import (
    ENCODER_DOWNSAMPLE,
    FUSION_BLOCK,
    STAGE_BLOCK,
    STAGE_CONV,
    STAGE_DOWNSAMPLE,
    Slot,
)

KEEP = "keep"
# Inside the host's shortcut: what a residual block is replaced by then ends in the same ReLU and strides alike.
_HOSTED = {"at": {"shortcut": "vd"}}
_UIB = [
    ("extradw", {"expand": 2.0}),
    ("extradw", {"expand": 4.0}),
    ("extradw", {"expand": 2.0, "start_kernel": 5, "middle_kernel": 5}),
    ("ib", {"expand": 2.0}),
    ("convnext-like", {"expand": 2.0}),
    ("ffn", {"expand": 1.0}),
]
BLOCKS: list[dict[str, Any]] = [
    *({"part": part, **options, **_HOSTED} for part, options in _UIB),
    {"part": "fasternet-block", **_HOSTED},
    {"part": "star", "expand": 2, **_HOSTED},
    {"part": "basic", "width": 0.5},
    {"part": "bottleneck", "width": 0.5},
    {"part": "none"},
]
FUSION_BLOCKS: list[dict[str, Any]] = [
    {"part": "csp-rep", "expansion": 0.25, "blocks": 1},
    {"part": "csp-rep", "expansion": 0.5, "blocks": 1},
    {"part": "repncspelan4-extradw", "expansion": 0.5, "branch_expansion": 0.25},
    {"part": "none"},
]
DOWNSAMPLES: list[dict[str, Any]] = [{"part": "spd", "kernel": 1}, {"part": "lae"}]
CONVS: list[dict[str, Any]] = [{"part": "pconv"}]
CATALOGUE: dict[Slot, list[dict[str, Any]]] = {
    STAGE_BLOCK: BLOCKS,
    FUSION_BLOCK: FUSION_BLOCKS,
    STAGE_DOWNSAMPLE: DOWNSAMPLES,
    ENCODER_DOWNSAMPLE: DOWNSAMPLES,
}
DEFAULT_SLOTS = (STAGE_BLOCK, FUSION_BLOCK, ENCODER_DOWNSAMPLE)


@dataclass(frozen=True)
class Candidate:
    """Parts for the addresses of one slot; `key` names slot and candidate, and is part of file names."""

    slot: str
    name: str
    swaps: Mapping[str, PartChoice]

    @property
    def key(self) -> str:
        return f"{self.slot}={self.name}"


@dataclass(frozen=True)
class GraftSlot:
    """A place that may keep its part or take a candidate.

    Attributes:
        address: what users call it: a place's address with its index, or a whole stage (`backbone.stage4`).
        unit: the module whose input and output the candidates imitate.
    """

    address: str
    unit: str
    candidates: tuple[Candidate, ...]

    def overlaps(self, other: GraftSlot) -> bool:
        """Whether one lies in the other, so that only one of them can be changed."""
        return under(self.unit, other.unit) or under(other.unit, self.unit)


def find_slots(
    teacher: RTDETR, wanted: Sequence[str] = (), candidates: Sequence[Any] = (), *, source: str = "the model"
) -> list[GraftSlot]:
    """The slots of a teacher with their candidates; those of the default kinds that a candidate fits, or the wanted.

    Args:
        wanted: addresses: of slots, with or without index, `backbone.stage[3,4].block`, or stages, `backbone.stage4`.
        candidates: parts in a retrofit's form that replace the catalogue's, tried wherever they fit.

    Raises DetrofitError for a slot that the teacher lacks, and where nothing can be tried.
    """
    places = places_of(teacher)
    groups = _wanted_groups(places, wanted, source) if wanted else _default_groups(places)
    slots = [_slot(teacher, address, group, candidates) for address, group in groups.items()]
    found = [slot for slot in slots if slot.candidates]
    if not found:
        raise DetrofitError(f"no candidate fits {', '.join(wanted) or 'any slot'} of {source}; give others")
    return found


def trained_student(
    teacher: RTDETR, chosen: Iterable[Candidate], states: Mapping[str, Mapping[str, State]], *, seed: int = 0
) -> RTDETR:
    """The teacher with these candidates, and their trained states where there are (by key, then by module name)."""
    chosen = list(chosen)
    student = with_swaps(teacher, {a: c for each in chosen for a, c in each.swaps.items()}, seed=seed)
    for each in chosen:
        for name, state in states.get(each.key, {}).items():
            student.get_submodule(name).load_state_dict(state)
    return student


def _default_groups(places: Iterable[Place]) -> dict[str, list[Place]]:
    return {place.address: [place] for place in places if place.filled.slot in DEFAULT_SLOTS}


def _wanted_groups(places: Sequence[Place], wanted: Iterable[str], source: str) -> dict[str, list[Place]]:
    """Places by the address of the slot that they make up."""
    groups: dict[str, list[Place]] = {}
    stages = {
        f"backbone.stage{match[1]}" for place in places if (match := re.match(r"backbone\.stage(\d)", place.name))
    }
    known = {each for place in places for each in (place.filled.address, place.address)} | stages
    for address in (single for each in wanted for single in expand_address(each)):
        if address not in known:
            raise DetrofitError(
                f"{source} has no slot '{address}'{nearest(address, known) or '; `detrofit slots` lists those it has'}"
            )
        if address in stages:
            inside = [place for place in places if place.filled.slot is STAGE_BLOCK and under(place.name, address)]
            groups[address] = inside or [place for place in places if under(place.name, address)]
            continue
        for place in places:
            if address in (place.filled.address, place.address):
                groups.setdefault(place.address, []).append(place)
    return groups


def _slot(teacher: RTDETR, address: str, places: Sequence[Place], given: Sequence[Any]) -> GraftSlot:
    is_stage = address.count(".") == 1 and address.startswith("backbone.stage")
    unit = address if is_stage else _unit(places)
    found: list[Candidate] = []
    kind = places[0].filled.slot
    choices = [
        parse_choice(each, address) for each in given or CATALOGUE.get(kind, CONVS if kind is STAGE_CONV else [])
    ]
    for choice in choices:
        _add(found, teacher, address, {place.address: choice for place in places}, choice)
    if is_stage and not given:
        for part in CONVS:
            choice = parse_choice(part, address)
            _add(found, teacher, address, {f"{address}.conv": choice}, choice)
    return GraftSlot(address, unit, tuple(found))


def _unit(places: Sequence[Place]) -> str:
    """The module around a place that stays the same whatever fills it."""
    if places[0].filled.slot is STAGE_BLOCK:
        return places[0].address
    names = [re.sub(r"(\.(body|part|entry))+$", "", place.name) for place in places]
    shared = names[0]
    while not all(under(name, shared) for name in names):
        shared = shared.rpartition(".")[0]
    return shared


def _add(
    found: list[Candidate], teacher: RTDETR, address: str, swaps: Mapping[str, PartChoice], choice: PartChoice
) -> None:
    """Add a candidate if it fits, and changes something."""
    try:
        with torch.device("meta"):
            slots = _resolved(teacher, swaps)
    except DetrofitError:
        return
    if slots != teacher.slots:
        found.append(Candidate(address, _name(choice), swaps))


def _resolved(teacher: RTDETR, swaps: Mapping[str, PartChoice]) -> Mapping[str, Any]:
    from detrofit.model.build import assemble
    from detrofit.parts.retrofit import parse_retrofit

    stock = parse_retrofit(teacher.slots)
    return assemble(teacher.frame, stock, swaps, num_classes=teacher.num_classes)[0].slots


def _name(choice: PartChoice) -> str:
    """The part and what was chosen of its options, as `extradw+expand=2.0`: fit for file names."""
    options = [f"{key}={value}" for key, value in choice.options.items()]
    options += [f"{key}={value}" for key, value in choice.at.items() if (key, value) != ("shortcut", "vd")]
    return re.sub(r"[^\w=.+-]+", "-", "+".join([choice.part, *options]))
