"""Where in a model the parts of its slots are: from addresses to modules, and from tensors to slots."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from detrofit.errors import DetrofitError, nearest
from detrofit.model.build import assemble
from detrofit.model.detector import RTDETR
from detrofit.parts.assembly import Filled
from detrofit.parts.retrofit import expand_address, parse_retrofit


@dataclass(frozen=True)
class Place:
    """A filled place of the network: what fills it, and the qualified name of the module."""

    filled: Filled
    name: str

    @property
    def address(self) -> str:
        """With its index, so that it names this place alone where its slot has one."""
        return self.filled.address + ("" if self.filled.index is None else str(self.filled.index))


def places_of(model: RTDETR) -> list[Place]:
    """Every filled place of the backbone and the encoder, in the order of filling."""
    slots = parse_retrofit(model.slots)
    retrofit = {address: slots[address] for address in model.retrofit if address in slots}
    with torch.device("meta"):
        twin, filled = assemble(model.frame, slots, retrofit, num_classes=model.num_classes)
    names = {id(module): name for name, module in twin.named_modules()}
    places = [Place(each, names[id(each.module)]) for each in filled if id(each.module) in names]
    return [place for place in places if place.name.partition(".")[0] in ("backbone", "encoder")]


def modules_at(model: RTDETR, address: str, asked_by: str) -> list[str]:
    """The names of the modules at an address: a module's own name, or a slot's address as a retrofit has it.

    A slot without index has a module in each of its places; `backbone.stage[3,4].block` are two addresses. Raises
    DetrofitError that names `asked_by` for an address that the model lacks.
    """
    found: list[str] = []
    for single in expand_address(address):
        there = names_at(model, single)
        if not there:
            places, modules = places_of(model), _module_names(model)
            known = dict.fromkeys([*(place.filled.address for place in places), *modules])
            raise DetrofitError(f"{asked_by}: the model has nothing at '{single}'{nearest(single, known)}")
        found += there
    return found


def names_at(model: RTDETR, address: str) -> list[str]:
    """The same for one address; nothing where the model lacks it."""
    if address in _module_names(model):
        return [address]
    return [place.name for place in places_of(model) if address in (place.address, place.filled.address)]


def _module_names(model: RTDETR) -> list[str]:
    return [name for name, _ in model.named_modules() if name]


def slots_of(model: RTDETR, names: Iterable[str]) -> dict[str, str]:
    """The address of the innermost slot that each of these tensors lies in; outside all, two levels of its name."""
    addresses = {place.name: place.filled.address for place in places_of(model)}
    result = {}
    for name in names:
        around = name
        while around and around not in addresses:
            around = around.rpartition(".")[0]
        result[name] = addresses.get(around, ".".join(name.split(".")[:2]))
    return result


def under(name: str, address: str) -> bool:
    """Whether a module or tensor is, or lies in, the module at an address."""
    return name == address or name.startswith(f"{address}.")
