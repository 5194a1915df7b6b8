"""A retrofit: a mapping from slot addresses to parts with their options, and nothing else."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from detrofit.errors import DetrofitError, nearest
from detrofit.parts.slots import SLOTS, Slot

_MOST_EXPANDED = 1000
_SHORT_FORMS = ("timm",)  # `timm:NAME` is short for {part: timm, name: NAME}


@dataclass(frozen=True)
class PartChoice:
    """A part by name, its options, and what its slot lets one choose (`at`)."""

    part: str
    options: Mapping[str, Any] = field(default_factory=dict)
    at: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The form that YAML and the model file hold; `parse_choice` reads it back."""
        return {"part": self.part, **self.options, **({"at": dict(self.at)} if self.at else {})}

    def over(self, base: PartChoice | None) -> PartChoice:
        """This choice laid over `base`: where both name the same part, options that this one leaves out stay."""
        if base is None or base.part != self.part:
            return self
        return replace(self, options={**base.options, **self.options}, at={**base.at, **self.at})


def parse_choice(value: Any, address: str) -> PartChoice:
    """A choice from its YAML form: a name, `timm:NAME`, or a mapping with `part`, options and `at`."""
    if isinstance(value, PartChoice):
        return value
    if isinstance(value, str):
        kind, colon, name = value.partition(":")
        return PartChoice(kind, {"name": name}) if colon and kind in _SHORT_FORMS else PartChoice(value)
    if value is None:
        return PartChoice("none")
    if not isinstance(value, Mapping) or not isinstance(value.get("part"), str):
        raise DetrofitError(f"slot {address}: give a part's name or a mapping with 'part', not {value!r}")
    options = {str(key): option for key, option in value.items() if key not in ("part", "at")}
    at = value.get("at") or {}
    if not isinstance(at, Mapping):
        raise DetrofitError(f"slot {address}: 'at' takes a mapping, not {at!r}")
    named = parse_choice(value["part"], address)
    return PartChoice(named.part, {**named.options, **options}, dict(at))


def parse_retrofit(mapping: Mapping[str, Any]) -> dict[str, PartChoice]:
    """A retrofit from its YAML form, with `NAME[a,b]` expanded; DetrofitError for an address of no slot."""
    retrofit: dict[str, PartChoice] = {}
    for address, value in mapping.items():
        for single in expand_address(str(address)):
            slot_of(single)
            retrofit[single] = parse_choice(value, single)
    return retrofit


def expand_address(address: str) -> list[str]:
    """`backbone.stage[3,4].block` as `backbone.stage3.block` and `backbone.stage4.block`.

    Raises DetrofitError for more than any model has.
    """
    pieces = re.split(r"\[([\d,\s]+)\]", address)
    choices = [
        [piece] if position % 2 == 0 else [number.strip() for number in piece.split(",")]
        for position, piece in enumerate(pieces)
    ]
    if math.prod(map(len, choices)) > _MOST_EXPANDED:
        raise DetrofitError(f"slot {address:.60}...: more addresses at once than any model has slots")
    return ["".join(combination) for combination in itertools.product(*choices)]


def slot_of(address: str) -> Slot:
    """The kind of slot at an address; DetrofitError with the nearest spelling otherwise."""
    for slot in SLOTS:
        if slot.regex.fullmatch(address):
            return slot
    examples = [slot.pattern.replace("{stage}", stage) for slot in SLOTS for stage in "1234"]
    hint = nearest(address, dict.fromkeys(examples)) or "; `detrofit slots MODEL` lists them"
    raise DetrofitError(f"there is no slot '{address}'{hint}")
