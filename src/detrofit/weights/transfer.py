"""Taking weights over from one model into another by name: what was kept, what starts fresh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from detrofit.errors import DetrofitError

# Rows of these are classes; rows of classes that both models know by name are taken over.
_CLASS_ROWS = ("score_head", "denoising.embedding")


@dataclass(frozen=True)
class TransferReport:
    """Names of tensors that were kept, taken over in part (class rows by name), or stay fresh."""

    kept: list[str]
    by_class: list[str]
    fresh: list[str]
    kept_share: float

    def line(self) -> str:
        """One line for people."""
        fresh = f"; fresh: {', '.join(_prefixes(self.fresh))}" if self.fresh else ""
        return f"{self.kept_share:.1%} of the parameters kept{fresh}"


@torch.no_grad()
def transfer(
    model: nn.Module, state: Mapping[str, Tensor], source_classes: Sequence[str], target_classes: Sequence[str]
) -> TransferReport:
    """Load into `model` every tensor of `state` with its name and shape, and class rows by class name.

    Names are semantic, so all that a swap left unchanged is taken over. Raises DetrofitError where nothing fits.
    """
    kept, by_class, fresh = [], [], []
    same_classes = tuple(source_classes) == tuple(target_classes)
    for name, own in model.state_dict().items():
        given = state.get(name)
        if given is None or given.shape[1:] != own.shape[1:]:
            fresh.append(name)
        elif not same_classes and _has_class_rows(name, (given, source_classes), (own, target_classes)):
            _copy_class_rows(own, given, source_classes, target_classes)
            by_class.append(name)
        elif given.shape == own.shape:
            own.copy_(given)
            kept.append(name)
        else:
            fresh.append(name)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    share = sum(sizes.get(name, 0) for name in kept) / max(1, sum(sizes.values()))
    if not any(name in sizes for name in kept):
        raise DetrofitError("none of the given weights fit this model; was it made with other parts?")
    return TransferReport(kept, by_class, fresh, share)


def _has_class_rows(name: str, *tensors: tuple[Tensor, Sequence[str]]) -> bool:
    """Whether the first dimension of all is one row a class; the denoising embedding has one more, for padding."""
    if not any(marker in name for marker in _CLASS_ROWS):
        return False
    return all(len(tensor) in (len(classes), len(classes) + 1) for tensor, classes in tensors)


def _copy_class_rows(own: Tensor, given: Tensor, source: Sequence[str], target: Sequence[str]) -> None:
    rows = {name: row for row, name in enumerate(source)}
    for row, name in enumerate(target):
        if name in rows:
            own[row].copy_(given[rows[name]])


def _prefixes(names: Sequence[str]) -> list[str]:
    """The addresses that names lie under, two levels deep, each once."""
    return list(dict.fromkeys(".".join(name.split(".")[:2]) for name in names))
