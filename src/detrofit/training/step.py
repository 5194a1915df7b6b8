"""One update: forward, losses, gradients, optimizer; over accumulated batches and all processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from detrofit.data.transforms import resize_batch, size_of_step
from detrofit.model.detector import RTDETR
from detrofit.parts.layers import seed_drop_paths
from detrofit.randomness import derive_seed
from detrofit.training.devices import Devices
from detrofit.training.finite import FiniteGuard, first_fault

Batch = tuple[Tensor, list[dict[str, Any]]]


@dataclass
class Stepper:
    """Makes updates of `model` (wrapped for several processes as `network`).

    `sizes` are the input sizes (height, width) to draw from for each step.
    """

    model: RTDETR
    network: nn.Module
    optimizer: torch.optim.Optimizer
    devices: Devices
    guard: FiniteGuard
    seed: int
    clip: float
    sizes: list[tuple[int, int]]

    def update(self, batches: Sequence[Batch], step: int, several_sizes: bool) -> dict[str, float] | None:
        """Update the weights from the batches that one step accumulates; the losses, or None for a skipped step."""
        torch.manual_seed(derive_seed(self.seed, "step", step, self.devices.rank))
        seed_drop_paths(self.model, self.seed, step, self.devices.rank, self.devices.world_size)
        counts = [[len(target["labels"]) for target in targets] for _, targets in batches]
        boxes, most = self.devices.sum_and_max(
            float(sum(map(sum, counts))), float(max(max(count, default=0) for count in counts))
        )
        size = size_of_step(self.sizes, self.seed, step) if several_sizes else None
        self.guard.remember()
        totals: dict[str, float] = {}
        for number, batch in enumerate(batches):
            images, targets = self._on_device(batch, size)
            run = _Run(
                self, images, targets, step, num_boxes=boxes[0] / self.devices.world_size, max_boxes=int(most[1])
            )
            with self.devices.accumulating(self.network, last=number == len(batches) - 1):
                losses = run.losses(self.network)
                loss = torch.stack(list(losses.values())).sum()
                if not self._finite_everywhere(loss):
                    self._skip(run, step)
                    return None
                self.devices.accelerator.backward(loss)
            _add(totals, losses)
        if not self._apply():
            self._skip(run, step)
            return None
        self.guard.passed()
        return totals

    def _apply(self) -> bool:
        """Clip and take the optimizer's step, unless a gradient is not finite (the scaler of fp16 skips by itself)."""
        norm = self.devices.accelerator.clip_grad_norm_(self.model.parameters(), self.clip)
        scaled = self.devices.precision == "fp16"
        if not scaled and norm is not None and not torch.isfinite(norm):
            return False
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return True

    def _skip(self, run: _Run, step: int) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        fault = first_fault(self.model, lambda: run.losses(self.model), run.images)
        self.guard.failed(step, fault, run.images, run.targets)

    def _finite_everywhere(self, loss: Tensor) -> bool:
        ((_, worst),) = self.devices.sum_and_max(float(not torch.isfinite(loss)))
        return worst == 0

    def _on_device(self, batch: Batch, size: tuple[int, int] | None) -> Batch:
        images = self.devices.images(batch[0])
        if size is not None and size != tuple(images.shape[-2:]):
            images = resize_batch(images, size)
        return images, self.devices.targets(batch[1])


@dataclass
class _Run:
    """The forward pass of a batch, repeatable with the same noise."""

    stepper: Stepper
    images: Tensor
    targets: list[dict[str, Any]]
    step: int
    num_boxes: float
    max_boxes: int

    def losses(self, network: nn.Module) -> dict[str, Tensor]:
        """Weighted losses by name."""
        with self.stepper.devices.autocast():
            output = network(self.images, self.targets, generators=self._generators(), max_boxes=self.max_boxes)
        height, width = self.images.shape[-2:]
        return self.stepper.model.criterion(output, self.targets, (height, width), num_boxes=self.num_boxes)

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
