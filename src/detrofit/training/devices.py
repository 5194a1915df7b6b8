"""Where a training runs: device, precision and processes, by Hugging Face accelerate."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list
from torch import Tensor, nn

from detrofit.errors import DetrofitError
from detrofit.training.memory import keep_freed_memory
from detrofit.training.precision import choose_precision

Model = TypeVar("Model", bound=nn.Module)
Value = TypeVar("Value")
# That processes wait for each other: one may prepare something for all, a warm start or a download for instance, which
# can take longer than the ten minutes after which NCCL would give up.
PATIENCE = timedelta(hours=2)
_ACCELERATE_NAMES = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


class Devices:
    """One device in one process, or one of several processes under `accelerate launch`."""

    def __init__(self, device: str = "auto", precision: str = "auto", channels_last: bool = True) -> None:
        chosen = _chosen_device(device)
        # accelerate keeps one state a process, and several trainings may run in one, each as it was asked for.
        AcceleratorState._reset_state(reset_partial_state=True)
        self.precision = choose_precision(precision, chosen)
        with _one_device_of_many(chosen):
            self.accelerator = Accelerator(
                cpu=chosen.type == "cpu",
                mixed_precision=_ACCELERATE_NAMES[self.precision],
                kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
            )
        self.device = self.accelerator.device
        if self.device.type == "cpu":
            keep_freed_memory()
        if device != "auto" and self.device.type != chosen.type:
            raise DetrofitError(f"device {device} was asked for, and this machine has none; use --device cpu")
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.rank, self.world_size = self.accelerator.process_index, self.accelerator.num_processes
        self.is_main = self.accelerator.is_main_process

    def place(self, model: Model) -> Model:
        """The model on this device, its norms synchronised over CUDA processes."""
        if self.world_size > 1 and self.device.type == "cuda":
            model = with_synchronised_norms(model)
        return model.to(self.device).to(memory_format=self.memory_format)

    def images(self, images: Tensor) -> Tensor:
        """A batch uint8 [B,3,H,W] as float32 in 0..1 on this device."""
        return images.to(self.device, non_blocking=True).to(memory_format=self.memory_format).float().div_(255)

    def targets(self, targets: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The targets with their tensors on this device."""
        return [
            {key: value.to(self.device, non_blocking=True) if isinstance(value, Tensor) else value
             for key, value in target.items()}
            for target in targets
        ]  # fmt: skip

    def autocast(self) -> AbstractContextManager[None]:
        """The context in which the network runs in the chosen precision."""
        return self.accelerator.autocast()

    def autocast_without_scaler(self) -> AbstractContextManager[None]:
        """The same for a loss that no scaler enlarges: in fp16 many of its gradients would be 0, so fp32 there."""
        return nullcontext() if self.precision == "fp16" else self.accelerator.autocast()

    def accumulating(self, network: nn.Module, last: bool) -> AbstractContextManager[None]:
        """The context for a batch of an update: gradients are exchanged with the last one only."""
        return nullcontext() if last or self.world_size == 1 else self.accelerator.no_sync(network)

    def from_main(self, make: Callable[[], Value]) -> Value:
        """What `make` returns on the main process, given to all of them."""
        values: list[Any] = [make() if self.is_main else None]
        return broadcast_object_list(values)[0]

    def share_buffers(self, model: nn.Module) -> None:
        """Give the main process's buffers to all: each gathers norm statistics from its own pictures."""
        if self.world_size > 1:
            for buffer in model.buffers():
                torch.distributed.broadcast(buffer, 0)

    def share_state(self, model: nn.Module) -> None:
        """Give the main process's weights and buffers to all."""
        if self.world_size > 1:
            for tensor in (*model.parameters(), *model.buffers()):
                torch.distributed.broadcast(tensor.data, 0)

    @contextmanager
    def norms_alone(self, model: nn.Module) -> Iterator[None]:
        """Lets each process run the model by itself: synchronised norms would wait for the others."""
        norms = [module for module in model.modules() if isinstance(module, nn.SyncBatchNorm)]
        if not norms:
            yield
            return
        together = norms[0].process_group
        alone, _ = torch.distributed.new_subgroups(group_size=1)
        try:
            for norm in norms:
                norm.process_group = alone
            yield
        finally:
            for norm in norms:
                norm.process_group = together

    def any_of_all(self, condition: bool) -> bool:
        """Whether it holds in any of the processes."""
        ((_, largest),) = self.sum_and_max(float(condition))
        return largest > 0

    def sum_and_max(self, *values: float) -> list[tuple[float, float]]:
        """Each number summed over the processes, and its maximum."""
        if self.world_size == 1:
            return [(value, value) for value in values]
        gathered = self.accelerator.gather(torch.tensor([values], dtype=torch.float64, device=self.device))
        return [(float(column.sum()), float(column.max())) for column in gathered.T]


def with_synchronised_norms(model: Model) -> Model:
    """The model with norms that take their statistics over all processes, in place; its weights are the same objects.

    By timm, since in torch's own conversion timm's norms lose the activation that they hold.
    """
    from timm.layers import convert_sync_batchnorm

    converted: Model = convert_sync_batchnorm(model)
    return converted


@contextmanager
def _one_device_of_many(device: torch.device) -> Iterator[None]:
    """Tells accelerate, which takes the first device of a kind, the number that was asked for."""
    if device.index is None:
        yield
        return
    os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)
    try:
        yield
    finally:
        del os.environ["ACCELERATE_TORCH_DEVICE"]


def _chosen_device(device: str) -> torch.device:
    if device == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(name)
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise DetrofitError(f"there is no device '{device}'; use auto, cpu, cuda, cuda:1 or mps") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise DetrofitError(f"device {device} was asked for, and torch finds no CUDA here; use --device cpu")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise DetrofitError(f"device {device} was asked for, and the last one here is cuda:{last}")
    return chosen
