"""Which modules of a model stand in place of another's: where a part can learn from the one that it replaces."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from detrofit.model.detector import RTDETR
from detrofit.model.places import Place, places_of, under

Shape = Any  # a tuple of numbers, or a tuple of such


@dataclass(frozen=True)
class Replaced:
    """Where two models differ.

    Attributes:
        names: modules that both have under this name, of equal input and output shapes, and that hold all differences
            but those of `unmatched`. None lies in another.
        unmatched: places whose shapes differ from the first model's up to the whole network.
    """

    names: tuple[str, ...]
    unmatched: tuple[str, ...]


def find_replaced(teacher: RTDETR, student: RTDETR, image_size: tuple[int, int]) -> Replaced:
    """Where the student's parts differ from the teacher's, seen at that image size (height, width)."""
    known = _by_address(places_of(teacher))
    shapes = [_shapes(model, image_size) for model in (teacher, student)]
    names: list[str] = []
    unmatched: list[str] = []
    for place in places_of(student):
        there = known.get(place.address)
        if there is None or there[0].filled.choice == place.filled.choice:
            continue  # a place that the teacher lacks lies in, or before, another that differs
        shared = max((_common(place.name, each.name) for each in there), key=len)
        name = _matching(shared, *shapes)
        (names if name else unmatched).append(name or place.address)
    return Replaced(tuple(_outermost(names)), tuple(dict.fromkeys(unmatched)))


def _by_address(places: Iterable[Place]) -> dict[str, list[Place]]:
    result: dict[str, list[Place]] = {}
    for place in places:
        result.setdefault(place.address, []).append(place)
    return result


def _common(first: str, second: str) -> str:
    """The longest name that both lie in."""
    pieces = []
    for one, other in zip(first.split("."), second.split(".")):
        if one != other:
            break
        pieces.append(one)
    return ".".join(pieces)


def _matching(name: str, first: Mapping[str, Shape], second: Mapping[str, Shape]) -> str:
    """The module at `name`, or the nearest around it, that has equal shapes in both; empty for none."""
    while name and (name not in first or first[name] != second.get(name)):
        name = name.rpartition(".")[0]
    return name


def _outermost(names: Iterable[str]) -> list[str]:
    unique = list(dict.fromkeys(names))
    return [name for name in unique if not any(name != other and under(name, other) for other in unique)]


@torch.no_grad()
def _shapes(model: RTDETR, image_size: tuple[int, int]) -> dict[str, Shape]:
    """Shapes of what each module receives and returns."""
    twin = copy.deepcopy(model).eval().to("meta")
    found: dict[str, Shape] = {}
    for name, module in twin.named_modules():
        module.register_forward_hook(_note_shapes(found, name))
    twin(torch.zeros(1, 3, *image_size, device="meta"))
    return found


def _note_shapes(found: dict[str, Shape], name: str) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        found[name] = (_shape(inputs), _shape(output))

    return hook


def _shape(value: Any) -> Shape:
    if isinstance(value, torch.Tensor):
        return tuple(value.shape)
    return tuple(_shape(item) for item in value) if isinstance(value, (list, tuple)) else None
