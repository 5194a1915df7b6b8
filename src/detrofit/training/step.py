"""One update: forward, losses, gradients, optimizer; over accumulated batches and all processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from detrofit.data.transforms import resize_batch, size_of_step
from detrofit.distillation.loss import confidence_sum, distillation_losses
from detrofit.distillation.teacher import Teacher
from detrofit.model.detector import RTDETR
from detrofit.model.output import DetectorOutput
from detrofit.parts.layers import seed_drop_paths
from detrofit.randomness import derive_seed
from detrofit.training.devices import Devices
from detrofit.training.finite import FiniteGuard, first_fault

Batch = tuple[Tensor, list[dict[str, Any]]]


@dataclass
class Stepper:
    """Makes updates of `model` (wrapped for several processes as `network`).

    `sizes` are the input sizes (height, width) to draw from for each step. With a `teacher` its predictions are
    learnt too, their losses times `teacher_weight`.
    """

    model: RTDETR
    network: nn.Module
    optimizer: torch.optim.Optimizer
    devices: Devices
    guard: FiniteGuard
    seed: int
    clip: float
    sizes: list[tuple[int, int]]
    teacher: Teacher | None = None
    teacher_weight: float = 1.0

    def update(self, batches: Sequence[Batch], step: int, several_sizes: bool) -> dict[str, float] | None:
        """Update the weights from the batches that one step accumulates.

        Returns the losses, means over the processes, or None for a step that was skipped.
        """
        torch.manual_seed(derive_seed(self.seed, "step", step, self.devices.rank))
        self.guard.remember()
        runs = self._runs(
            batches, step, size_of_step(self.sizes, self.seed, step) if several_sizes and self.sizes else None
        )
        totals: dict[str, float] = {}
        for run in runs:
            with self.devices.accumulating(self.network, last=run is runs[-1]):
                losses = run.losses(self.network)
                loss = torch.stack(list(losses.values())).sum()
                if not self._finite_everywhere(loss):
                    self._skip(runs, step)
                    return None
                self.devices.accelerator.backward(loss)
            _add(totals, losses)
        if not self._apply():
            self._skip(runs, step)
            return None
        self.guard.passed()
        sums = self.devices.sum_and_max(*totals.values())
        return {name: total / self.devices.world_size for name, (total, _) in zip(totals, sums)}

    def _runs(self, batches: Sequence[Batch], step: int, size: tuple[int, int] | None) -> list[_Run]:
        """The forward passes of an update, with what all its batches and processes must agree on."""
        counts = [len(target["labels"]) for _, targets in batches for target in targets]
        placed = [self._on_device(batch, size) for batch in batches]
        lessons = [self._lesson(images) for images, _ in placed]
        confidence = sum(confidence_sum(lesson) for lesson in lessons if lesson is not None)
        (boxes, _), (_, most), (confidence, _) = self.devices.sum_and_max(
            float(sum(counts)), float(max(counts, default=0)), confidence
        )
        world_size = self.devices.world_size
        return [
            _Run(
                self,
                images,
                targets,
                lesson,
                step,
                share=number * world_size + self.devices.rank,
                shares=len(batches) * world_size,
                # At least 1 of all together, so that the processes' mean divides by it.
                num_boxes=max(boxes, 1.0) / world_size,
                max_boxes=int(most),
                confidence=max(confidence, 1.0) / world_size,
            )
            for number, ((images, targets), lesson) in enumerate(zip(placed, lessons))
        ]

    def _lesson(self, images: Tensor) -> DetectorOutput | None:
        """What the teacher says about a batch, where there is one."""
        if self.teacher is None:
            return None
        with self.devices.autocast():
            return self.teacher(images)

    def _apply(self) -> bool:
        """Clip and take the optimizer's step; False where a gradient is not finite, and no step was taken.

        In fp16 the scaler skips such a step by itself and tries a lower scale, which is no fault while it is above 1.
        """
        scaler = self.devices.accelerator.scaler
        norm = self.devices.accelerator.clip_grad_norm_(self.model.parameters(), self.clip)
        faulty = not torch.isfinite(norm) and (scaler is None or scaler.get_scale() <= 1)
        if faulty and scaler is None:
            return False
        self.optimizer.step()  # with the scaler's update, which has to follow in any case
        self.optimizer.zero_grad(set_to_none=True)
        return not faulty

    def _skip(self, runs: Sequence[_Run], step: int) -> None:
        """Undo what the step did to the model, and keep its bad batches as evidence."""
        self.optimizer.zero_grad(set_to_none=True)
        found = []
        with self.devices.norms_alone(self.model):
            for run in runs:
                self.guard.restore()
                fault = first_fault(self.model, partial(run.losses, self.model), run.images)
                if fault is not None:
                    name = f"step{step}" if run.shares == 1 else f"step{step}_share{run.share}"
                    found.append(self.guard.keep(name, fault, run.images, run.targets))
        self.guard.restore()
        self.guard.failed(found[0] if found else "a tensor of another process, which names it")

    def _finite_everywhere(self, loss: Tensor) -> bool:
        return not self.devices.any_of_all(not torch.isfinite(loss))

    def _on_device(self, batch: Batch, size: tuple[int, int] | None) -> Batch:
        images = self.devices.images(batch[0])
        if size is not None and size != tuple(images.shape[-2:]):
            images = resize_batch(images, size)
        return images, self.devices.targets(batch[1])


@dataclass
class _Run:
    """The forward pass of a batch, repeatable with the same noise.

    It is number `share` of the `shares` that make up the global batch: an update's batches, over all processes.
    `lesson` is what the teacher says about it, `confidence` the teacher's sum over the update's batches, as `num_boxes`
    is that of the targets.
    """

    stepper: Stepper
    images: Tensor
    targets: list[dict[str, Any]]
    lesson: DetectorOutput | None
    step: int
    share: int
    shares: int
    num_boxes: float
    max_boxes: int
    confidence: float

    def losses(self, network: nn.Module) -> dict[str, Tensor]:
        """Weighted losses by name."""
        seed_drop_paths(self.stepper.model, self.stepper.seed, self.step, self.share, self.shares)
        with self.stepper.devices.autocast():
            output = network(self.images, self.targets, generators=self._generators(), max_boxes=self.max_boxes)
        height, width = self.images.shape[-2:]
        losses = self.stepper.model.criterion(output, self.targets, (height, width), num_boxes=self.num_boxes)
        if self.lesson is not None:
            weight = self.stepper.teacher_weight
            losses |= distillation_losses(output, self.lesson, weight=weight, divisor=self.confidence)
        return losses

    def _generators(self) -> list[torch.Generator]:
        keys = (
            derive_seed(self.stepper.seed, "noise", self.step, int(target["image_index"])) for target in self.targets
        )
        return [torch.Generator().manual_seed(key) for key in keys]


def _add(totals: dict[str, float], losses: dict[str, Tensor]) -> None:
    """Sum the losses by kind (class, l1, box) and all together, over layers and batches, in one transfer."""
    values = torch.stack(list(losses.values())).detach().tolist()
    for name, value in zip(losses, values):
        kind = f"loss_{name.partition('.')[0]}"
        totals[kind] = totals.get(kind, 0.0) + value
        totals["loss"] = totals.get("loss", 0.0) + value
