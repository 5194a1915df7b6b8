"""What a part is tried on: modules built for its slots as the frame builds them, and inputs with the shapes due."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from detrofit.errors import DetrofitError
from detrofit.parts.assembly import Assembly, SlotFiller
from detrofit.parts.registry import Part
from detrofit.parts.retrofit import PartChoice
from detrofit.parts.slots import (
    BACKBONE,
    BACKBONE_STEM,
    ENCODER_ATTENTION,
    ENCODER_CONTEXT,
    ENCODER_DOWNSAMPLE,
    ENCODER_FUSION,
    FUSION_BLOCK,
    STAGE_ATTENTION,
    STAGE_BLOCK,
    STAGE_CONV,
    STAGE_DOWNSAMPLE,
    STAGE_INSERT,
    Slot,
)

Shape: TypeAlias = tuple[int, int, int, int]  # batch, channels, height, width

_STAGE = {"stage": 3}
_USUAL_STAGES = "[3,4]"  # where articles swap: the early stages hold few parameters
_LEAST_WIDTH = 8
_THREE, _FOUR = (8, 16, 32), (4, 8, 16, 32)
_SIZES = ((2, 8, 8), (1, 9, 7), (2, 5, 12), (1, 2, 3))  # batch, height, width: even, odd, rectangular, tiny

# Channels in and out as multiples of the least width, and the stride.
_STRIDED = ((2, 2, 1), (2, 4, 1), (2, 4, 2), (2, 2, 2), (4, 2, 2))
_KEPT = ((2, 2, 1), (4, 4, 1), (5, 5, 1))
_DOWN = ((2, 2, 2), (2, 4, 2), (4, 2, 2))
_FORMS: Mapping[Slot, Sequence[tuple[int, int, int]]] = {
    STAGE_BLOCK: _STRIDED,
    STAGE_CONV: _STRIDED,
    STAGE_INSERT: _KEPT,
    STAGE_ATTENTION: _KEPT,
    STAGE_DOWNSAMPLE: _DOWN,
    ENCODER_ATTENTION: _KEPT,
    ENCODER_CONTEXT: _KEPT,
    FUSION_BLOCK: ((4, 2, 1), (2, 2, 1)),
    ENCODER_DOWNSAMPLE: _DOWN,
}


@dataclass(frozen=True)
class Trial:
    """A part in a slot with these numbers, and the shapes of its input.

    `out_shapes` are what the contract asks of the output; None for a backbone, whose channels are its own.
    """

    place: Place
    numbers: Mapping[str, Any]
    shapes: Sequence[Shape]
    out_shapes: Sequence[Shape] | None

    @property
    def what(self) -> str:
        """The trial in words."""
        numbers = ", ".join(f"{name} {value}" for name, value in self.numbers.items())
        return f"{numbers}, input {' and '.join('x'.join(map(str, shape)) for shape in self.shapes)}"

    @property
    def trainable(self) -> bool:
        """Whether batch norm has enough to take statistics of."""
        return self.shapes[0][0] > 1

    def build(self) -> nn.Module:
        """The module, the same every time."""
        return self.place.build(**self.numbers)

    def inputs(self) -> Tensor | list[Tensor]:
        """One map, or the list of maps that a fusion takes; the same every time."""
        generator = torch.Generator().manual_seed(0)
        maps = [torch.randn(shape, generator=generator) for shape in self.shapes]
        return maps if self.place.slot is ENCODER_FUSION else maps[0]

    def expected(self, module: nn.Module) -> list[Shape]:
        """The shapes that the contract asks of the outputs of `module`."""
        if self.out_shapes is not None:
            return list(self.out_shapes)
        batch, _, height, width = self.shapes[0]
        pairs = zip(module.channels, self.numbers["strides"])  # type: ignore[arg-type]
        return [(batch, channels, height // stride, width // stride) for channels, stride in pairs]


@dataclass(frozen=True)
class Place:
    """A part in one of the slots that it fits, with its default options but for those given."""

    part: Part
    slot: Slot
    given: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @cached_property
    def address(self) -> str:
        return self.slot.address(_STAGE)

    @cached_property
    def options(self) -> dict[str, Any]:
        """The options given, and an example for every other one that has no default."""
        return {**_examples(self.part), **self.given}

    def filler(self, options: Mapping[str, Any]) -> SlotFiller:
        """A filler for a model with this part, and stock ones in whatever slots it offers."""
        choice = PartChoice(self.part.name, options)
        return Assembly({}, {self.address: choice}).filler().at(**_STAGE)

    def build(self, **numbers: Any) -> nn.Module:
        """The part for these numbers, adapted to the slot as in a model; the same initial values every time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.filler(self.options).fill(self.slot, default=self.part.name, **numbers)

    def trials(self) -> list[Trial]:
        """What to try in this slot; empty for losses, which are no modules between maps."""
        if self.slot is BACKBONE:
            return list(self._backbone_trials())
        if self.slot is ENCODER_FUSION:
            return list(self._fusion_trials())
        if self.slot is BACKBONE_STEM:
            return list(self._map_trials(3, 2 * self._width, 4))
        forms = _FORMS.get(self.slot, ())
        return [trial for a, b, stride in forms for trial in self._map_trials(a * self._width, b * self._width, stride)]

    @property
    def _width(self) -> int:
        options = self.filler(self.options).choice(self.slot, self.part.name).options
        return math.lcm(_LEAST_WIDTH, self.part.channel_multiple_with(options))

    def _map_trials(self, in_channels: int, out_channels: int, stride: int) -> Iterator[Trial]:
        numbers = {"in_channels": in_channels, "out_channels": out_channels, "stride": stride}
        numbers = {name: value for name, value in numbers.items() if name in self.slot.numbers}
        for batch, height, width in _SIZES:
            out_shape = (batch, out_channels, math.ceil(height / stride), math.ceil(width / stride))
            yield Trial(self, numbers, [(batch, in_channels, height, width)], [out_shape])

    def _fusion_trials(self) -> Iterator[Trial]:
        channels = 4 * self._width
        for strides in (_THREE, _FOUR):
            for batch, height, width in ((2, 64, 96), (1, 100, 52)):
                shapes = [(batch, channels, math.ceil(height / s), math.ceil(width / s)) for s in strides]
                yield Trial(self, {"in_channels": channels, "strides": strides}, shapes, shapes)

    def _backbone_trials(self) -> Iterator[Trial]:
        for strides, batch, height, width in ((_THREE, 2, 32, 64), (_THREE, 1, 64, 32), (_FOUR, 1, 64, 64)):
            yield Trial(self, {"strides": strides}, [(batch, 3, height, width)], None)


def usual_retrofit(part: Part) -> dict[str, Any]:
    """The retrofit, in its YAML form, that puts a part where it usually goes: the first slot that it fits."""
    address = part.fits[0].pattern.replace("{stage}", _USUAL_STAGES)
    examples = _examples(part)
    return {address: {"part": part.name, **examples} if examples else part.name}


def _examples(part: Part) -> dict[str, Any]:
    """A value for every option that has no default; DetrofitError where its declaration gives none."""
    required = {name: info.examples for name, info in part.options.model_fields.items() if info.is_required()}
    for name, examples in required.items():
        if not examples:
            raise DetrofitError(
                f"part '{part.name}': option '{name}' has neither a default nor an example to try it with; "
                "give one with Field(examples=[...])"
            )
    return {name: examples[0] for name, examples in required.items() if examples}
