"""What may be grafted where: the slots of a trained model, and candidates of the catalogue for each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from detrofit.distillation.swap import State, put_trained, with_swaps
from detrofit.errors import DetrofitError, nearest
from detrofit.model.build import assemble
from detrofit.model.detector import RTDETR
from detrofit.model.places import Place, places_of, under
from detrofit.parts.retrofit import PartChoice, expand_address, parse_choice, parse_retrofit
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
CATALOGUE: dict[Slot, list[dict[str, Any]]] = {
    STAGE_BLOCK: BLOCKS,
    FUSION_BLOCK: FUSION_BLOCKS,
    STAGE_DOWNSAMPLE: DOWNSAMPLES,
    ENCODER_DOWNSAMPLE: DOWNSAMPLES,
    STAGE_CONV: [{"part": "pconv"}],
}
DEFAULT_SLOTS = (STAGE_BLOCK, FUSION_BLOCK, ENCODER_DOWNSAMPLE, STAGE_CONV)


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

    Raises DetrofitError for a slot that the teacher lacks, a wanted one that nothing fits, and a given candidate that
    fits nowhere.
    """
    places = places_of(teacher)
    addresses = [single for each in wanted for single in expand_address(each)]
    groups = _wanted_groups(places, addresses, source) if wanted else _default_groups(places)
    misfits: dict[str, str] = {}
    slots = [_slot(teacher, address, group, candidates, misfits) for address, group in groups.items()]
    found = [slot for slot in slots if slot.candidates]
    _check_all_fit(candidates, found, misfits)
    filled = {each for slot in found for each in (slot.address, groups[slot.address][0].filled.address)}
    if empty := [address for address in addresses if address not in filled] or ([] if found else ["any slot"]):
        raise DetrofitError(f"no candidate fits {empty[0]} of {source}; give others")
    return found


def trained_student(
    teacher: RTDETR, chosen: Iterable[Candidate], states: Mapping[str, Mapping[str, State]], *, seed: int = 0
) -> RTDETR:
    """The teacher with these candidates, and their trained states where there are (by key, then by module name)."""
    chosen = list(chosen)
    student = with_swaps(teacher, {a: c for each in chosen for a, c in each.swaps.items()}, seed=seed)
    for each in chosen:
        put_trained(student, states.get(each.key, {}))
    return student


def _check_all_fit(given: Sequence[Any], slots: Iterable[GraftSlot], misfits: Mapping[str, str]) -> None:
    """DetrofitError for a given candidate that no slot has, with why the last one has not."""
    names = {candidate.name for slot in slots for candidate in slot.candidates}
    for each in given:
        name = _name(parse_choice(each, "--candidates"))
        if name not in names:
            raise DetrofitError(f"the candidate '{name}' fits none of the slots: {misfits.get(name, 'there are none')}")


def _default_groups(places: Sequence[Place]) -> dict[str, list[Place]]:
    groups: dict[str, list[Place]] = {}
    for kind in DEFAULT_SLOTS:
        for place in places:
            if place.filled.slot is kind:
                groups.setdefault(place.address, []).append(place)
    return groups


def _wanted_groups(places: Sequence[Place], wanted: Iterable[str], source: str) -> dict[str, list[Place]]:
    """Places by the address of the slot that they make up."""
    groups: dict[str, list[Place]] = {}
    stages = {
        f"backbone.stage{match[1]}" for place in places if (match := re.match(r"backbone\.stage(\d)", place.name))
    }
    known = {each for place in places for each in (place.filled.address, place.address)} | stages
    for address in wanted:
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


def _slot(
    teacher: RTDETR, address: str, places: Sequence[Place], given: Sequence[Any], misfits: dict[str, str]
) -> GraftSlot:
    """The slot with what fits it; `misfits` learns why the rest, by name, does not."""
    is_stage = address.count(".") == 1 and address.startswith("backbone.stage")
    choices = _parsed(given or CATALOGUE.get(places[0].filled.slot, []), address)
    proposed = [(_name(choice), {place.address: choice for place in places}) for choice in choices]
    if is_stage and not given and places[0].filled.slot is STAGE_BLOCK:
        proposed += _whole_stages(address, places)
    found: list[Candidate] = []
    known = [_resolved(teacher, {})]
    for name, swaps in proposed:
        try:
            places_then = _resolved(teacher, swaps)
        except DetrofitError as error:
            misfits[name] = str(error)
            continue
        if places_then in known:
            misfits[name] = f"{address} has it already"
            continue
        known.append(places_then)
        if any(each.name == name for each in found):
            name += "+shortcut=vd"  # which names leave out
        found.append(Candidate(address, name, swaps))
    return GraftSlot(address, address if is_stage else _unit(places), tuple(found))


def _whole_stages(address: str, places: Sequence[Place]) -> list[tuple[str, dict[str, PartChoice]]]:
    """What only a whole stage can become: PConv in all of its residual blocks, and a depth of one block."""
    first, *rest = [place.address for place in places]
    stages = [(_name(choice), {f"{address}.conv": choice}) for choice in _parsed(CATALOGUE[STAGE_CONV], address)]
    emptied = dict.fromkeys(rest, PartChoice("none"))
    if rest:
        stages.append(("depth=1", emptied))
        stages += [(f"{_name(choice)}+depth=1", {first: choice, **emptied}) for choice in _parsed(BLOCKS[:2], address)]
    return stages


def _parsed(parts: Iterable[Any], address: str) -> list[PartChoice]:
    return [parse_choice(each, address) for each in parts]


def _unit(places: Sequence[Place]) -> str:
    """The module around a place that stays the same whatever fills it."""
    if places[0].filled.slot is STAGE_BLOCK:
        return places[0].address
    names = [re.sub(r"(\.(body|part|entry))+$", "", place.name) for place in places]
    shared = names[0]
    while not all(under(name, shared) for name in names):
        shared = shared.rpartition(".")[0]
    return shared


def _resolved(teacher: RTDETR, swaps: Mapping[str, PartChoice]) -> list[tuple[str, int | None, PartChoice]]:
    """Every place with its part once these are in; DetrofitError where one does not fit."""
    stock = parse_retrofit(teacher.slots)
    with torch.device("meta"):
        filled = assemble(teacher.frame, stock, swaps, num_classes=teacher.num_classes)[1]
    return [(place.address, place.index, place.choice) for place in filled]


def _name(choice: PartChoice) -> str:
    """The part and what was chosen of its options, as `extradw+expand=2.0`: fit for file names."""
    options = [f"{key}={value}" for key, value in choice.options.items()]
    options += [f"{key}={value}" for key, value in choice.at.items() if (key, value) != ("shortcut", "vd")]
    return re.sub(r"[^\w=.+-]+", "-", "+".join([choice.part, *options]))
