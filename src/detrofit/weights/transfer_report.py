"""What a start from given weights took over, slot by slot, as shares of parameters and of operations."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from detrofit.errors import DetrofitError, nearest
from detrofit.model.costs import flops_by_module
from detrofit.weights.transfer import TransferReport

_COUNTER = "num_batches_tracked"


@dataclass
class SlotTransfer:
    """One address: parameters and operations (of layers with parameters) that were kept, whose rows of known classes
    were, and that start fresh."""

    address: str
    kept: int = 0
    by_class: int = 0
    fresh: int = 0
    kept_flops: int = 0
    flops: int = 0


def slot_transfers(model: nn.Module, report: TransferReport, image_size: tuple[int, int]) -> list[SlotTransfer]:
    """What was taken over under each address, in the order of the model."""
    slots: dict[str, SlotTransfer] = {}
    kept, by_class = set(report.kept), set(report.by_class)
    for name, parameter in model.named_parameters():
        slot = slots.setdefault(address_of(name), SlotTransfer(address_of(name)))
        kind = "kept" if name in kept else "by_class" if name in by_class else "fresh"
        setattr(slot, kind, getattr(slot, kind) + parameter.numel())
    for name, flops in _own_flops(model, image_size).items():
        own = [f"{name}.{key}" for key, _ in model.get_submodule(name).named_parameters(recurse=False)]
        if own:
            slot = slots[address_of(own[0])]
            slot.flops += flops
            slot.kept_flops += flops if kept.issuperset(own) else 0
    return list(slots.values())


def transfer_json(
    model: nn.Module, report: TransferReport, image_size: tuple[int, int], **facts: Any
) -> dict[str, Any]:
    """All of it as the content of `transfer.json`: totals, slots, names of tensors that were not kept whole."""
    slots = slot_transfers(model, report, image_size)
    parameters = sum(slot.kept + slot.by_class + slot.fresh for slot in slots)
    flops = sum(slot.flops for slot in slots)
    return {
        **facts,
        "kept_share_of_parameters": sum(slot.kept for slot in slots) / max(1, parameters),
        "kept_share_of_flops": sum(slot.kept_flops for slot in slots) / max(1, flops),
        "slots": [asdict(slot) for slot in slots],
        "by_class": report.by_class,
        "fresh": [name for name in report.fresh if not name.endswith(_COUNTER)],
    }


def transfer_lines(content: dict[str, Any]) -> list[str]:
    """Lines for people from what `transfer_json` gave: the shares, then each address that was not kept whole."""
    lines = [
        f"kept: {content['kept_share_of_parameters']:.1%} of the parameters, "
        f"{content['kept_share_of_flops']:.1%} of the operations"
    ]
    for slot in content["slots"]:
        total = slot["kept"] + slot["by_class"] + slot["fresh"]
        if slot["kept"] < total:
            shares = {"kept": slot["kept"], "rows of classes by name": slot["by_class"], "fresh": slot["fresh"]}
            told = ", ".join(f"{kind} {count / total:.0%}" for kind, count in shares.items() if count)
            lines.append(f"  {slot['address']}: {told}")
    return lines


def require_kept(report: TransferReport, addresses: Iterable[str]) -> None:
    """DetrofitError unless every tensor under each of `addresses` was taken over."""
    kept, others = report.kept, [*report.by_class, *report.fresh]
    for address in addresses:
        if not any(_under(name, address) for name in (*kept, *others)):
            known = dict.fromkeys(address_of(name) for name in (*kept, *others))
            raise DetrofitError(f"--require {address}: the model has no such address{nearest(address, known)}")
        lost = [name for name in others if _under(name, address) and not name.endswith(_COUNTER)]
        if lost:
            raise DetrofitError(f"--require {address}: {len(lost)} tensors under it were not kept, first '{lost[0]}'")


def address_of(name: str) -> str:
    """The address that a tensor is counted under: two levels of its name."""
    return ".".join(name.split(".")[:2])


def _under(name: str, address: str) -> bool:
    return name == address or name.startswith(f"{address}.")


def _own_flops(model: nn.Module, image_size: Sequence[int]) -> dict[str, int]:
    """Operations that each module does itself, without those of the modules inside it."""
    height, width = image_size
    counts = flops_by_module(copy.deepcopy(model).to("meta"), (height, width))
    own = {name: counts[name] for name, _ in model.named_modules() if name and name in counts}
    for name in list(own):
        parent = name.rpartition(".")[0]
        if parent in own:
            own[parent] -= counts[name]
    return own
