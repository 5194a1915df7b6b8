"""Translation between our names of a model's tensors and another implementation's, written as pairs of beginnings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# What their count from 0 is in our names; {coarse} and {fine} count steps down the pyramid, {raised} steps up it.
# Any other placeholder is the same number on both sides.
_OFFSETS = {"stage": 1, "position": 1}
_LEVELS = {
    "level": lambda index, levels: index,
    "coarse": lambda index, levels: levels - 1 - index,
    "fine": lambda index, levels: levels - 2 - index,
    "raised": lambda index, levels: index + 1,
}
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class _Beginning:
    """One pair, compiled for both directions."""

    theirs: str
    ours: str
    find_theirs: re.Pattern[str]
    find_ours: re.Pattern[str]


class NameMap:
    """Names of the other implementation (`theirs`) to ours and back; what follows a beginning stays as it is.

    Args:
        pairs: beginnings (theirs, ours) with placeholders for numbers. `{level}` is the position of a level in their
            names and its stride in ours; `{stage}` and `{position}` count from 0 in theirs and from 1 in ours. The
            first pair that matches is taken.
        strides: of the levels, in order.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]], strides: Sequence[int]) -> None:
        self._strides = tuple(strides)
        self._beginnings = [_Beginning(theirs, ours, _pattern(theirs), _pattern(ours)) for theirs, ours in pairs]

    def ours(self, name: str) -> str | None:
        """Our name of their tensor, or None for one that no pair knows."""
        for beginning in self._beginnings:
            match = beginning.find_theirs.match(name)
            numbers = match and self._our_numbers(match.groupdict())
            if match and numbers is not None:
                return beginning.ours.format(**numbers) + name[match.end() :]
        return None

    def theirs(self, name: str) -> str | None:
        """Their name of our tensor, or None for one that no pair knows."""
        for beginning in self._beginnings:
            match = beginning.find_ours.match(name)
            numbers = match and self._their_numbers(match.groupdict())
            if match and numbers is not None:
                return beginning.theirs.format(**numbers) + name[match.end() :]
        return None

    def _our_numbers(self, found: Mapping[str, str]) -> dict[str, int] | None:
        numbers = {kind: int(digits) + _OFFSETS.get(kind, 0) for kind, digits in found.items()}
        for kind in numbers.keys() & _LEVELS.keys():
            level = _LEVELS[kind](numbers[kind], len(self._strides))
            if not 0 <= level < len(self._strides):
                return None
            numbers[kind] = self._strides[level]
        return numbers

    def _their_numbers(self, found: Mapping[str, str]) -> dict[str, int] | None:
        numbers = {kind: int(digits) - _OFFSETS.get(kind, 0) for kind, digits in found.items()}
        for kind in numbers.keys() & _LEVELS.keys():
            of_stride = {self._strides[_LEVELS[kind](i, len(self._strides))]: i for i in self._indices(kind)}
            if numbers[kind] not in of_stride:
                return None
            numbers[kind] = of_stride[numbers[kind]]
        return numbers

    def _indices(self, kind: str) -> range:
        return range(len(self._strides) if kind in ("level", "coarse") else len(self._strides) - 1)


def _pattern(template: str) -> re.Pattern[str]:
    # Texts and placeholders take turns.
    pieces = enumerate(_PLACEHOLDER.split(template))
    return re.compile(
        "".join(rf"(?P<{piece}>[0-9]{{1,4}})" if turn % 2 else re.escape(piece) for turn, piece in pieces)
    )


def conv_and_norm(theirs: str, ours: str, conv: str = "conv", norm: str = "norm") -> list[tuple[str, str]]:
    """The two pairs of a convolution with its norm, which are `conv` and `norm` in ours."""
    return [(f"{theirs}{conv}.", f"{ours}conv."), (f"{theirs}{norm}.", f"{ours}norm.")]


def count_indices(names: Iterable[str], pattern: str) -> int:
    """How many a numbered list has whose names start with `pattern`, a regular expression with one group of digits."""
    found = (re.match(pattern, name) for name in names)
    return max((int(match.group(1)) + 1 for match in found if match), default=0)


def strides_of(levels: int) -> list[int]:
    """Strides of that many levels, the last of which is 32."""
    return [32 >> level for level in reversed(range(levels))]


def with_batch_counts(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state with the batch counter that a frozen norm does not have beside its running variance."""
    result = dict(state)
    for name in state:
        if name.endswith(".running_var"):
            result.setdefault(name.replace("running_var", "num_batches_tracked"), torch.tensor(0))
    return result
