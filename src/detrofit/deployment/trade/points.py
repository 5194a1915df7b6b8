"""What can be changed in a trained model without training: input size, queries, decoder layers."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from detrofit.errors import DetrofitError
from detrofit.model.detector import RTDETR
from detrofit.weights.model_file import ModelInfo
from detrofit.weights.truncate import truncated_frame

SIZE_SHARES = (0.5, 0.625, 0.75, 0.875, 1.0, 1.25)  # of the trained input size
QUERY_SHARES = (0.25, 0.5, 1.0)  # of the trained number
_STEM = re.compile(r"(\d+)x(\d+)-q(\d+)-l(\d+)$")


class Point(NamedTuple):
    """One setting of the three knobs: `size` is height and width in pixels."""

    size: tuple[int, int]
    num_queries: int
    decoder_layers: int

    @property
    def stem(self) -> str:
        """The name of its files, from which `parse_stem` reads it back: HEIGHTxWIDTH-qQUERIES-lLAYERS."""
        return f"{self.size[0]}x{self.size[1]}-q{self.num_queries}-l{self.decoder_layers}"

    def __str__(self) -> str:
        layers = f"{self.decoder_layers} decoder layer{'s' if self.decoder_layers > 1 else ''}"
        return f"{self.size[0]} x {self.size[1]}, {self.num_queries} queries, {layers}"


@dataclass(frozen=True)
class Knobs:
    """The values to try of each knob; empty for those that suit the model."""

    sizes: Sequence[tuple[int, int]] = ()
    num_queries: Sequence[int] = ()
    decoder_layers: Sequence[int] = ()


def as_trained(model: RTDETR, info: ModelInfo) -> Point:
    """The point that a model file is at."""
    frame = model.frame
    return Point(info.input_size, frame.num_queries, frame.eval_decoder_layers or frame.decoder_layers)


def grid(model: RTDETR, info: ModelInfo, knobs: Knobs) -> list[Point]:
    """All combinations of the knobs' values, the point as trained first.

    Raises DetrofitError for a size that the model does not take, and as `truncated_frame` does.
    """
    start = as_trained(model, info)
    multiple = model.size_multiple
    sizes = knobs.sizes or [_scaled(start.size, share, multiple) for share in SIZE_SHARES]
    queries = knobs.num_queries or [max(1, round(start.num_queries * share)) for share in QUERY_SHARES]
    layers = knobs.decoder_layers or range(1, model.frame.decoder_layers + 1)
    for height, width in sizes:
        if height % multiple or width % multiple or min(height, width) < multiple:
            raise DetrofitError(f"the input size {height},{width} is no multiple of {multiple}")
    for num_queries, decoder_layers in itertools.product(queries, layers):
        truncated_frame(model, num_queries=num_queries, decoder_layers=decoder_layers)
    combinations = (Point(*values) for values in itertools.product(sizes, queries, layers))
    return list(dict.fromkeys([start, *combinations]))


def _scaled(size: tuple[int, int], share: float, multiple: int) -> tuple[int, int]:
    """The size that is nearest to a share of it and that the model takes."""
    height, width = (max(multiple, round(side * share / multiple) * multiple) for side in size)
    return height, width


def parse_stem(stem: str) -> Point | None:
    """The point that a file's stem names, or None."""
    found = _STEM.search(stem)
    if found is None:
        return None
    height, width, queries, layers = map(int, found.groups())
    return Point((height, width), queries, layers)
