"""What a part is tried on: modules built for its slots as the frame builds them, and inputs with the shapes due."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

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

_STAGE = {"stage": 3}
_LEAST_WIDTH = 8
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
    """A module in a slot, an input for it and the shapes that its contract asks of the output."""

    what: str
    build: Callable[[], nn.Module] = field(repr=False)
    inputs: Callable[[], Tensor | list[Tensor]] = field(repr=False)
    expected: Callable[[nn.Module], list[tuple[int, ...]]] = field(repr=False)
    trainable: bool = True  # large enough for batch norm in training


@dataclass(frozen=True)
class Place:
    """A part in one of the slots that it fits."""

    part: Part
    slot: Slot

    @cached_property
    def address(self) -> str:
        return self.slot.address(_STAGE)

    @cached_property
    def options(self) -> dict[str, Any]:
        """An example for every option that has no default."""
        fields = self.part.options.model_fields
        return {name: (info.examples or [None])[0] for name, info in fields.items() if info.is_required()}

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
            out_size = (math.ceil(height / stride), math.ceil(width / stride))
            yield Trial(
                f"{in_channels} to {out_channels} channels, stride {stride}, {batch} x {height} x {width}",
                lambda: self.build(**numbers),
                _maps([(batch, in_channels, height, width)], single=True),
                _always([(batch, out_channels, *out_size)]),
                trainable=batch > 1,
            )

    def _fusion_trials(self) -> Iterator[Trial]:
        for strides in ((8, 16, 32), (4, 8, 16, 32)):
            for batch, height, width in ((2, 64, 96), (1, 100, 52)):
                channels = 4 * self._width
                shapes = [(batch, channels, math.ceil(height / s), math.ceil(width / s)) for s in strides]
                yield Trial(
                    f"{len(strides)} levels, {batch} x {height} x {width}",
                    lambda strides=strides, channels=channels: self.build(in_channels=channels, strides=strides),
                    _maps(shapes),
                    _always(shapes),
                    trainable=batch > 1,
                )

    def _backbone_trials(self) -> Iterator[Trial]:
        three, four = (8, 16, 32), (4, 8, 16, 32)
        for strides, batch, height, width in ((three, 2, 32, 64), (three, 1, 64, 32), (four, 1, 64, 64)):
            yield Trial(
                f"strides {list(strides)}, {batch} x {height} x {width}",
                lambda strides=strides: self.build(strides=strides),
                _maps([(batch, 3, height, width)], single=True),
                lambda module, strides=strides, batch=batch, height=height, width=width: [
                    (batch, channels, height // stride, width // stride)
                    for channels, stride in zip(module.channels, strides)
                ],
                trainable=batch > 1,
            )


def _maps(shapes: Sequence[tuple[int, ...]], single: bool = False) -> Callable[[], Tensor | list[Tensor]]:
    def draw() -> Tensor | list[Tensor]:
        generator = torch.Generator().manual_seed(0)
        maps = [torch.randn(shape, generator=generator) for shape in shapes]
        return maps[0] if single else maps

    return draw


def _always(shapes: list[tuple[int, ...]]) -> Callable[[nn.Module], list[tuple[int, ...]]]:
    return lambda module: shapes
