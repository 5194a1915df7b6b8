"""Whether every part gives maps of the shape that its slot asks for, known before any work."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from detrofit.errors import DetrofitError
from detrofit.model.detector import RTDETR
from detrofit.parts.assembly import Filled
from detrofit.parts.slots import BACKBONE, ENCODER_DOWNSAMPLE, ENCODER_FUSION, STAGE_DOWNSAMPLE

_HALVING = (STAGE_DOWNSAMPLE, ENCODER_DOWNSAMPLE)  # whose parts are not told a stride


def check_shapes(model: RTDETR, filled: Sequence[Filled], image_size: tuple[int, int]) -> None:
    """DetrofitError naming slot, part and shapes where a part fails on its map, or gives one that its slot cannot take.

    Args:
        model: on the meta device, so that nothing is computed.
        filled: its places, as `assemble` records them.
        image_size: (height, width) of the network's input.
    """
    running: list[Filled] = []
    handles = [handle for place in filled for handle in _watch(place, running)]
    device = next(model.parameters()).device
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval().maps(torch.zeros(1, 3, *image_size, device=device))
    except DetrofitError:
        raise
    except Exception as error:  # a part may raise anything
        if not running:
            raise
        if "meta" not in str(error):  # what looks at values tells its shapes only where there are some
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DetrofitError(f"{_named(running[-1])} fails: {reason}") from error
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()


def _watch(place: Filled, running: list[Filled]) -> Sequence[RemovableHandle]:
    """Hooks that know which places run, the innermost last, and look at what each gives."""

    def begin(module: Any, inputs: Any) -> None:
        running.append(place)

    def end(module: Any, inputs: Any, output: Any) -> None:
        running.pop()
        given, wanted = _shapes(output), _wanted(place, inputs[0])
        if given != wanted:
            raise DetrofitError(f"{_named(place)} gives {_in_words(given)}, and its slot needs {_in_words(wanted)}")

    return place.module.register_forward_pre_hook(begin), place.module.register_forward_hook(end)


def _wanted(place: Filled, given: Any) -> list[tuple[int, ...]]:
    """The shapes that the slot's contract asks of the output for this input."""
    if place.slot is ENCODER_FUSION:
        return _shapes(given)
    batch, _, height, width = given.shape
    numbers = place.numbers
    if place.slot is BACKBONE:
        channels = getattr(place.module, "channels", ())
        return [(batch, count, *_sides(height, width, by)) for count, by in zip(channels, numbers["strides"])]
    stride = 2 if place.slot in _HALVING else numbers.get("stride", 1)
    return [(batch, numbers.get("out_channels", numbers["in_channels"]), *_sides(height, width, stride))]


def _sides(height: int, width: int, stride: int) -> tuple[int, int]:
    return math.ceil(height / stride), math.ceil(width / stride)


def _shapes(maps: Any) -> list[tuple[int, ...]]:
    """Shapes of a map, or of several; none for anything else."""
    listed = [maps] if isinstance(maps, Tensor) else maps if isinstance(maps, (list, tuple)) else []
    return [tuple(each.shape) for each in listed if isinstance(each, Tensor)]


def _named(place: Filled) -> str:
    return f"part '{place.part.name}' in slot {place.address}"


def _in_words(shapes: list[tuple[int, ...]]) -> str:
    return " and ".join("x".join(map(str, shape)) for shape in shapes) or "no map"
