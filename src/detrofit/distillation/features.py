"""What modules of a frozen model receive and return, recorded in one pass, streamed or kept on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import torch
from torch import Tensor, nn

from detrofit.data.loader import TrainingLoader
from detrofit.distillation.imitation import Maps, box_weights
from detrofit.errors import DetrofitError
from detrofit.weights.tensor_file import write_tensors

Batch = tuple[Tensor, list[dict[str, Any]]]  # images float32 [B,3,H,W] in 0..1, targets
_LARGEST = torch.finfo(torch.float16).max
_KEY = "layout"
GIGABYTE = 1e9


class Pair(NamedTuple):
    """What a module was called with and what it returned, in half precision."""

    inputs: tuple[Maps, ...]
    output: Maps


class Lesson(NamedTuple):
    """A batch: the pair of each module by name, and how much places count (None: all alike)."""

    pairs: Mapping[str, Pair]
    weights: Tensor | None


class Capture:
    """Runs a model in eval mode and records the pairs of the modules with these names, from one pass.

    Tensors are copied as they are at the call, for later modules may change them in place; one that several modules
    see, such as the output of a block and the input of the next, is copied once.
    """

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        self.model, self.names = model, tuple(names)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> dict[str, Pair]:
        self.model.eval()
        copies = _Copies()
        inputs: dict[str, tuple[Maps, ...]] = {}
        pairs: dict[str, Pair] = {}
        hooks = []
        for name in self.names:
            module = self.model.get_submodule(name)
            hooks.append(module.register_forward_pre_hook(_noting_inputs(copies, inputs, name)))
            hooks.append(module.register_forward_hook(_noting_pair(copies, inputs, pairs, name, len(self.names))))
        try:
            self.model(images)
        except _EnoughError:
            pass
        finally:
            for hook in hooks:
                hook.remove()
        return {name: pairs[name] for name in self.names}


class OwnInputs(Capture):
    """What the teacher's modules return, with what a student's modules of the same names receive in the student.

    Parts that learnt on the teacher's inputs alone meet others' errors once they stand together.
    """

    def __init__(self, teacher: nn.Module, student: nn.Module, names: Sequence[str]) -> None:
        super().__init__(teacher, names)
        self.student = Capture(student, names)

    def __call__(self, images: Tensor) -> dict[str, Pair]:
        taught, own = super().__call__(images), self.student(images)
        return {name: Pair(own[name].inputs, taught[name].output) for name in self.names}


class _EnoughError(Exception):
    """Everything is recorded, so that the rest of the model need not run."""


class _Copies:
    """Half-precision copies of tensors; the same tensor, unchanged since, is copied once."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}  # the first of the pair keeps its id taken

    def of(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            key = (id(value), value._version)
            if key not in self._known:
                self._known[key] = (value, value.clamp(-_LARGEST, _LARGEST).to(torch.float16, copy=True))
            return self._known[key][1]
        return tuple(self.of(item) for item in value)


def _noting_inputs(copies: _Copies, inputs: dict[str, Any], name: str) -> Any:
    def hook(module: nn.Module, given: Any) -> None:
        inputs[name] = copies.of(given)

    return hook


def _noting_pair(copies: _Copies, inputs: dict[str, Any], pairs: dict[str, Pair], name: str, wanted: int) -> Any:
    def hook(module: nn.Module, given: Any, output: Any) -> None:
        pairs[name] = Pair(inputs[name], copies.of(output))
        if len(pairs) == wanted:
            raise _EnoughError

    return hook


@dataclass
class Lessons:
    """The lessons of a local training by number, the same at every call.

    Args:
        capture: of the teacher.
        batches: the batches from a number on.
        inside: how many times as much a place inside a target box counts; 1: all alike.
        autocast: the context in which the teacher runs.
        cache: keeps them on disk; a lesson that is there is not computed again.
    """

    capture: Capture
    batches: Callable[[int], Iterator[Batch]]
    inside: float = 1.0
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext
    cache: FeatureCache | None = None

    def from_number(self, start: int) -> Iterator[Lesson]:
        """The lessons from number `start` on, without end."""
        number, device = start, next(self.capture.model.parameters()).device
        while self.cache is not None and (known := self.cache.read(number, device)) is not None:
            yield known
            number += 1
        for images, targets in self.batches(number):
            lesson = self._lesson(images, targets)
            if self.cache is not None:
                self.cache.write(number, lesson)
            yield lesson
            number += 1

    def _lesson(self, images: Tensor, targets: list[dict[str, Any]]) -> Lesson:
        with self.autocast():
            pairs = self.capture(images)
        if self.inside == 1.0:
            return Lesson(pairs, None)
        return Lesson(pairs, box_weights(targets, tuple(images.shape[-2:]), self.inside).to(images.device))  # type: ignore[arg-type]


@dataclass
class FeatureCache:
    """Lessons in a folder, a file each, in half precision, with the memory format that each map had.

    Another format would round otherwise in what learns from it, so that a training that goes on from the cache would
    not end as one that never stopped.
    """

    folder: Path

    def read(self, number: int, device: torch.device) -> Lesson | None:
        """The lesson of that number, or None if it is not there."""
        file = self._file(number)
        if not file.exists():
            return None
        try:
            with safetensors.safe_open(file, framework="pt", device=str(device)) as opened:
                layout = json.loads((opened.metadata() or {})[_KEY])
                tensors = [opened.get_tensor(str(key)) for key in range(len(opened.keys()))]
                for number in layout["channels_last"]:
                    tensors[number] = tensors[number].contiguous(memory_format=torch.channels_last)
        except (OSError, KeyError, IndexError, ValueError, safetensors.SafetensorError):
            file.unlink(missing_ok=True)  # it is made again
            return None
        return _from_layout(layout, tensors)

    def write(self, number: int, lesson: Lesson) -> None:
        """Keep a lesson; DetrofitError where the disk is full."""
        layout, tensors = _to_layout(lesson)
        named = {str(key): tensor for key, tensor in enumerate(tensors)}
        write_tensors(self._file(number), named, {_KEY: json.dumps(layout)})

    def remove(self) -> None:
        """Free the disk."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06d}.safetensors"


def endless_batches(loader: TrainingLoader, prepare: Callable[[Batch], Batch]) -> Callable[[int], Iterator[Batch]]:
    """The batches of a loader by number, epoch after epoch, each through `prepare` (to floats on a device)."""

    def batches(start: int) -> Iterator[Batch]:
        epoch, step = divmod(start, loader.steps_per_epoch)
        while True:
            for batch in loader.batches(epoch, step):
                yield prepare(batch)
            epoch, step = epoch + 1, 0

    return batches


def cache_for(lessons: Lessons, count: int, folder: Path, limit: float) -> FeatureCache | None:
    """The cache for `count` lessons if they fit into `limit` bytes, else None: they are then streamed.

    Measured on the first lesson. Raises DetrofitError where they fit into the limit, but not on the disk.
    """
    first = next(lessons.from_number(0))
    needed = count * sum(tensor.nbytes for tensor in _to_layout(first)[1])
    if needed > limit:
        return None
    cache = FeatureCache(folder)
    folder.mkdir(parents=True, exist_ok=True)
    needed -= sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DetrofitError(
            f"the features of {count} batches need {needed / GIGABYTE:.2f} GB in {folder}, where {free / GIGABYTE:.2f} "
            "GB are free; free space, choose another --out, or stream them with --cache 0"
        )
    return cache


def _to_layout(lesson: Lesson) -> tuple[dict[str, Any], list[Tensor]]:
    """The lesson as a tree of numbers, and the tensors that they stand for, each once."""
    tensors: list[Tensor] = []
    numbers: dict[int, int] = {}

    def number(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return [number(item) for item in value]
        if id(value) not in numbers:
            numbers[id(value)] = len(tensors)
            tensors.append(value)
        return numbers[id(value)]

    pairs = {name: number(pair) for name, pair in lesson.pairs.items()}
    weights = None if lesson.weights is None else number(lesson.weights)
    channels_last = [place for place, tensor in enumerate(tensors) if _is_channels_last(tensor)]
    return {"pairs": pairs, "weights": weights, "channels_last": channels_last}, tensors


def _is_channels_last(tensor: Tensor) -> bool:
    return tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


def _from_layout(layout: Mapping[str, Any], tensors: Sequence[Tensor]) -> Lesson:
    def value(number: Any) -> Any:
        return tensors[number] if isinstance(number, int) else tuple(value(item) for item in number)

    pairs = {name: Pair(*value(number)) for name, number in layout["pairs"].items()}
    return Lesson(pairs, None if layout["weights"] is None else value(layout["weights"]))
