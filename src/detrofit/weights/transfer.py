"""Taking weights over from one model into another by name: what was kept, resized, taken by class, starts fresh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from detrofit.errors import DetrofitError
from detrofit.weights.coco_names import common_name

Kind = Literal["kept", "resized", "by_class", "fresh"]
COUNTER = "num_batches_tracked"  # how batch norms call a number that is no weight

# Rows of these are classes; rows of classes that both models know by name are taken over.
_CLASS_ROWS = ("score_head", "denoising.embedding")
_QUERY_ROWS = "query_selection.learnt_content."  # rows are queries, best first: as many as both have are taken over
_PRETRAINED_BACKBONE = 0.1  # a swap in the largest stage leaves about a third; another backbone leaves nothing
_PRETRAINED_REST = 0.5


@dataclass(frozen=True)
class TransferReport:
    """What became of each tensor of a model.

    Attributes:
        kinds: by name. Kernels of another size, and learnt queries of another number, are `resized`, rows of classes
            that both know taken `by_class`.
        sizes: numbers in each parameter; buffers are not in it.
        class_share: of the model's classes, how many the weights know by name.
        unused: tensors of the weights that the model has no place for, or one of another shape.
    """

    kinds: Mapping[str, Kind]
    sizes: Mapping[str, int]
    class_share: float = 1.0
    unused: tuple[str, ...] = ()

    @property
    def kept(self) -> list[str]:
        """Tensors taken over as they are."""
        return self._of("kept")

    @property
    def resized(self) -> list[str]:
        """Tensors taken over in another size."""
        return self._of("resized")

    @property
    def by_class(self) -> list[str]:
        """Tensors of which rows of known classes were taken over."""
        return self._of("by_class")

    @property
    def fresh(self) -> list[str]:
        """Tensors that start from random numbers."""
        return self._of("fresh")

    @property
    def kept_share(self) -> float:
        """Parameters taken over as they are, as a share of all."""
        return self._share(self.sizes, "kept")

    @property
    def pretrained(self) -> str:
        """What of the model is pretrained now: "model", "backbone" or "nothing"."""
        backbone = [name for name in self.sizes if name.startswith("backbone.")]
        rest = [name for name in self.sizes if not name.startswith("backbone.")]
        if self._share(backbone, "kept", "resized") < _PRETRAINED_BACKBONE:
            return "nothing"
        return "model" if self._share(rest, "kept", "resized") >= _PRETRAINED_REST else "backbone"

    def line(self) -> str:
        """One line for people."""
        fresh = f"; fresh: {', '.join(prefixes(self.fresh))}" if self.fresh else ""
        return f"{self.kept_share:.1%} of the parameters kept{fresh}"

    def followed_by(self, later: TransferReport) -> TransferReport:
        """The report of both, where `later` went over the same model: what it took counts."""
        kinds = {name: kind if later.kinds[name] == "fresh" else later.kinds[name] for name, kind in self.kinds.items()}
        return replace(self, kinds=kinds, unused=(*self.unused, *later.unused))

    def _of(self, kind: Kind) -> list[str]:
        return [name for name, each in self.kinds.items() if each == kind]

    def _share(self, names: Sequence[str] | Mapping[str, int], *kinds: Kind) -> float:
        total = sum(self.sizes[name] for name in names)
        return sum(self.sizes[name] for name in names if self.kinds[name] in kinds) / max(1, total)


@torch.no_grad()
def transfer(
    model: nn.Module, state: Mapping[str, Tensor], source_classes: Sequence[str], target_classes: Sequence[str]
) -> TransferReport:
    """Load into `model` every tensor of `state` with its name and shape, and class rows by class name.

    Names are semantic, so all that a swap left unchanged is taken over. Kernels that differ in size alone are padded
    with zeros, which leaves a convolution what it is, or cut at the edges; of learnt queries the first are taken.
    Raises DetrofitError where nothing fits.
    """
    rows = _matching_rows(source_classes, target_classes)
    classes = (len(source_classes), len(target_classes))
    same_classes = classes[0] == classes[1] and rows == [(row, row) for row in range(classes[0])]
    kinds: dict[str, Kind] = {}
    for name, own in model.state_dict().items():
        given = state.get(name)
        if given is None:
            kinds[name] = "fresh"
        elif not same_classes and given.shape[1:] == own.shape[1:] and _has_class_rows(name, (given, own), classes):
            for source, target in rows:
                own[target].copy_(given[source])
            kinds[name] = "by_class"
        elif given.shape == own.shape:
            own.copy_(given)
            kinds[name] = "kept"
        elif _QUERY_ROWS in name and given.shape[1:] == own.shape[1:]:
            own[: len(given)].copy_(given[: len(own)])
            kinds[name] = "resized"
        elif _is_other_kernel(given, own):
            own.copy_(_resized(given, own))
            kinds[name] = "resized"
        else:
            kinds[name] = "fresh"
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    if all(kinds[name] == "fresh" for name in sizes):
        raise DetrofitError("none of the given weights fit this model; was it made with other parts?")
    unused = (name for name in state if kinds.get(name, "fresh") == "fresh" and not name.endswith(COUNTER))
    return TransferReport(kinds, sizes, len(rows) / max(1, classes[1]), tuple(unused))


def _matching_rows(source: Sequence[str], target: Sequence[str]) -> list[tuple[int, int]]:
    """Rows (source, target) of classes that are called the same, as written or in the usual spelling of both."""
    exact = {name: row for row, name in enumerate(source)}
    usual = {common_name(name): row for row, name in reversed(list(enumerate(source)))}
    found = [(exact.get(name, usual.get(common_name(name))), row) for row, name in enumerate(target)]
    return [(given, row) for given, row in found if given is not None]


def _has_class_rows(name: str, tensors: Sequence[Tensor], classes: Sequence[int]) -> bool:
    """Whether the first dimension of all is one row a class; the denoising embedding has one more, for padding."""
    if not any(marker in name for marker in _CLASS_ROWS):
        return False
    return all(tensor.ndim and len(tensor) in (count, count + 1) for tensor, count in zip(tensors, classes))


def _is_other_kernel(given: Tensor, own: Tensor) -> bool:
    """Whether both are kernels of one convolution in two sizes, each with a middle."""
    if given.ndim != 4 or own.ndim != 4 or given.shape[:2] != own.shape[:2]:
        return False
    return all(side % 2 == 1 for side in (*given.shape[2:], *own.shape[2:]))


def _resized(kernel: Tensor, own: Tensor) -> Tensor:
    height, width = ((wanted - side) // 2 for wanted, side in zip(own.shape[2:], kernel.shape[2:]))
    return functional.pad(kernel, (width, width, height, height))


def prefixes(names: Sequence[str]) -> list[str]:
    """The addresses that names lie under, two levels deep, each once."""
    return list(dict.fromkeys(".".join(name.split(".")[:2]) for name in names))
