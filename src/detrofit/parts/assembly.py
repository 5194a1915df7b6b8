"""From names and numbers to built modules: how the frame and its parts fill their slots."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from detrofit.errors import DetrofitError
from detrofit.parts.layers import ConvNorm, PadToMultiple
from detrofit.parts.registry import Part, get_part, parts_for, validated
from detrofit.parts.retrofit import PartChoice
from detrofit.parts.slots import STRIDE_SLOTS, Slot


@dataclass(frozen=True)
class Filled:
    """One place that was filled: its slot and address, the part with every option resolved, the module."""

    slot: Slot
    address: str
    index: int | None
    choice: PartChoice
    part: Part
    numbers: Mapping[str, Any]
    module: nn.Module
    inside: str | None  # the address whose part offered this slot


@dataclass
class Assembly:
    """The choices for a model, and the record of the places that were filled with them.

    `stock` are the zoo model's own choices, `retrofit` the user's over them.
    """

    stock: Mapping[str, PartChoice]
    retrofit: Mapping[str, PartChoice]
    filled: list[Filled] = field(default_factory=list)

    def filler(self) -> SlotFiller:
        """The filler that the frame starts with."""
        return SlotFiller(self, {})

    def chosen(self, address: str, indexed: str) -> PartChoice | None:
        """The choice for a place: the retrofit's over the stock one, the indexed address over the general one."""
        result: PartChoice | None = None
        for choices in (self.stock, self.retrofit):
            for key in dict.fromkeys((address, indexed)):
                if key in choices:
                    result = choices[key].over(result)
        return result

    def resolved(self) -> dict[str, dict[str, Any]]:
        """Every filled address with its part and every option, in the form that `parse_retrofit` reads."""
        result: dict[str, dict[str, Any]] = {}
        for place in self.filled:
            choice = place.choice.to_dict()
            known = result.setdefault(place.address, choice)
            indexed = f"{place.address}{place.index}"
            if place.index is not None and (known != choice or indexed in self.retrofit):
                result[indexed] = choice
        return result

    def check_all_used(self, stock_filled: list[Filled] | None = None) -> None:
        """DetrofitError where the retrofit names a slot that this model does not have.

        `stock_filled`, the record of the model without the retrofit, tells which part removed the slot.
        """
        offered = {place.address for place in self.filled}
        offered |= {f"{place.address}{place.index}" for place in self.filled if place.index is not None}
        for address in self.retrofit:
            if address not in offered:
                raise DetrofitError(f"there is no slot {address} in this model{self._removed(address, stock_filled)}")

    def _removed(self, address: str, stock_filled: list[Filled] | None) -> str:
        base = re.sub(r"\d+$", "", address)
        host = next((place.inside for place in stock_filled or [] if place.address in (address, base)), None)
        while host is not None:
            now = next((place for place in self.filled if place.address == host), None)
            if now is not None and host in self.retrofit:
                return f": the part '{now.part.name}' in {host} does not have it"
            host = next((place.inside for place in stock_filled or [] if place.address == host), None)
        return "; `detrofit slots MODEL` lists those it has"


class SlotFiller:
    """Fills slots for a frame or part: looks up the choice, checks it, adapts it to the place, records it."""

    def __init__(self, assembly: Assembly, context: Mapping[str, int], inside: str | None = None) -> None:
        self._assembly = assembly
        self._context = dict(context)
        self._inside = inside

    def at(self, **context: int) -> SlotFiller:
        """A filler for the same assembly in another context, e.g. `at(stage=4)`."""
        return SlotFiller(self._assembly, {**self._context, **context}, self._inside)

    def chosen(self, slot: Slot, index: int | None = None) -> bool:
        """Whether the user's retrofit names this place."""
        address = slot.address(self._context)
        return bool({address, slot.address(self._context, index)} & self._assembly.retrofit.keys())

    def choice(self, slot: Slot, default: str, index: int | None = None) -> PartChoice:
        """The part for this place with every option and `at` resolved and checked."""
        address = slot.address(self._context)
        where = f"slot {address}"
        choice = self._assembly.chosen(address, slot.address(self._context, index)) or PartChoice(default)
        part = self._fitting(slot, choice.part)
        options = validated(part.options, choice.options, f"{where}, part '{part.name}'")
        at = validated(slot.at_model, choice.at, f"{where}, 'at'")
        host_has_skip = slot.host_skips or at.get("shortcut") == "vd"
        if host_has_skip and "residual" in options and "residual" not in choice.options:
            options["residual"] = False
        return PartChoice(part.name, options, at)

    def fill(self, slot: Slot, *, default: str, index: int | None = None, **numbers: Any) -> nn.Module:
        """The module for a place: the retrofit's part or the default, adapted to `numbers`.

        `index` tells places apart that share an address. Raises DetrofitError that names slot, part and option.
        """
        choice = self.choice(slot, default, index)
        part = get_part(choice.part)
        entry, numbers = self._entry(slot, part, choice, numbers)
        self._check_channels(slot, part, choice, numbers)
        address = slot.address(self._context)
        module = self._built(address, part, choice, numbers)
        record = Filled(slot, address, index, choice, part, numbers, module, self._inside)
        self._assembly.filled.append(record)
        if part.size_multiple > 1:
            module = PadToMultiple(module, part.size_multiple)
        return module if entry is None else nn.Sequential(OrderedDict(entry=entry, part=module))

    def _built(self, address: str, part: Part, choice: PartChoice, numbers: Mapping[str, Any]) -> nn.Module:
        inner = SlotFiller(self._assembly, self._context, inside=address)
        try:
            return part.build(**part.accepts({"slots": inner, **numbers}), **choice.options)
        except DetrofitError:
            raise
        except Exception as error:  # a part may raise anything
            reason = " ".join(str(error).split()) or type(error).__name__
            shape = ", ".join(f"{name} {value}" for name, value in part.accepts(numbers).items())
            raise DetrofitError(
                f"part '{part.name}' in slot {address} cannot be built for {shape}: {reason}"
            ) from error

    def _fitting(self, slot: Slot, name: str) -> Part:
        part = get_part(name)
        if slot not in part.fits:
            allowed = ", ".join(candidate.name for candidate in parts_for(slot))
            raise DetrofitError(f"part '{name}' does not fit slot {slot.address(self._context)}; these do: {allowed}")
        return part

    def _entry(
        self, slot: Slot, part: Part, choice: PartChoice, numbers: dict[str, Any]
    ) -> tuple[nn.Module | None, dict[str, Any]]:
        """What must stand before a part that cannot stride or widen by itself, and the numbers left for the part."""
        in_channels, out_channels = numbers.get("in_channels"), numbers.get("out_channels", numbers.get("in_channels"))
        stride_slot = STRIDE_SLOTS.get(slot)
        if numbers.get("stride", 1) > 1 and stride_slot is not None:
            own = part.strides_with(choice.options) and (stride_slot in part.slots or not self.chosen(stride_slot))
            if not own:
                entry = self.fill(stride_slot, default="conv-s2", in_channels=in_channels, out_channels=out_channels)
                return entry, {**numbers, "in_channels": out_channels, "stride": 1}
        if in_channels != out_channels and not part.can_widen:
            return ConvNorm(in_channels, out_channels), {**numbers, "in_channels": out_channels}  # type: ignore[arg-type]
        return None, numbers

    def _check_channels(self, slot: Slot, part: Part, choice: PartChoice, numbers: Mapping[str, Any]) -> None:
        multiple = part.channel_multiple_with(choice.options)
        for name in ("in_channels", "out_channels"):
            if numbers.get(name, 0) % multiple:
                raise DetrofitError(
                    f"part '{part.name}' in slot {slot.address(self._context)} needs {name} to be a multiple of "
                    f"{multiple}, and this place has {numbers[name]}"
                )
