"""What a start from given weights took over, slot by slot, as shares of parameters and of operations."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from torch import nn

from detrofit.errors import DetrofitError
from detrofit.model.costs import flops_by_module
from detrofit.model.detector import RTDETR
from detrofit.model.places import modules_at, slots_of, under
from detrofit.weights.transfer import COUNTER, Kind, TransferReport, prefixes

_KINDS: tuple[Kind, ...] = get_args(Kind)
_WORDS: Mapping[Kind, str] = {
    "kept": "kept",
    "resized": "resized",
    "by_class": "rows of classes by name",
    "fresh": "fresh",
}


@dataclass
class SlotTransfer:
    """One slot, all its places together: parameters and operations (of layers with some) by what became of them.

    `address` is the slot's; of what lies in no slot, two levels of its name.
    """

    address: str
    parameters: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(_KINDS, 0))
    flops: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(_KINDS, 0))

    def add(self, counts: dict[Kind, int], kind: Kind, number: int, class_share: float) -> None:
        """Count numbers under their kind; of class rows, those of unknown classes are fresh."""
        taken = round(number * class_share) if kind == "by_class" else number
        counts[kind] += taken
        counts["fresh"] += number - taken


def slot_transfers(model: RTDETR, report: TransferReport, image_size: tuple[int, int]) -> list[SlotTransfer]:
    """What was taken over in each slot, in the order of the model.

    A tensor counts in the innermost slot that it lies in, and a layer's operations as its largest tensor does: its
    weight.
    """
    slots: dict[str, SlotTransfer] = {}
    addresses = slots_of(model, report.sizes)
    for name, number in report.sizes.items():
        slot = slots.setdefault(addresses[name], SlotTransfer(addresses[name]))
        slot.add(slot.parameters, report.kinds[name], number, report.class_share)
    for name, flops in _own_flops(model, image_size).items():
        own = [f"{name}.{key}" for key, _ in model.get_submodule(name).named_parameters(recurse=False)]
        if own:
            weight = max(own, key=report.sizes.__getitem__)
            slot = slots[addresses[weight]]
            slot.add(slot.flops, report.kinds[weight], flops, report.class_share)
    return list(slots.values())


def transfer_json(model: RTDETR, report: TransferReport, image_size: tuple[int, int], **facts: Any) -> dict[str, Any]:
    """All of it as the content of `transfer.json`: totals, slots, names of tensors not kept whole and not used."""
    slots = slot_transfers(model, report, image_size)
    return {
        **facts,
        "shares_of_parameters": _shares(slot.parameters for slot in slots),
        "shares_of_flops": _shares(slot.flops for slot in slots),
        "slots": [vars(slot) for slot in slots],
        "resized": report.resized,
        "by_class": report.by_class,
        "fresh": [name for name in report.fresh if not name.endswith(COUNTER)],
        "unused": list(report.unused),
    }


def transfer_lines(content: Mapping[str, Any]) -> list[str]:
    """Lines for people from what `transfer_json` gave: the shares, each slot not kept whole, what was not used."""
    parameters, flops = content["shares_of_parameters"], content["shares_of_flops"]
    lines = [f"of the parameters: {_in_words(parameters)}; of the operations: {_in_words(flops)}"]
    for slot in content["slots"]:
        if slot["parameters"]["kept"] < sum(slot["parameters"].values()):
            shares = [_in_words(_shares([slot[counts]])) for counts in ("parameters", "flops")]
            of_flops = f" (operations: {shares[1]})" if sum(slot["flops"].values()) and shares[0] != shares[1] else ""
            lines.append(f"  {slot['address']}: {shares[0]}{of_flops}")
    if unused := content["unused"]:
        lines.append(f"  not used of the weights: {len(unused)} tensors, of {', '.join(prefixes(unused))}")
    return lines


def require_kept(model: RTDETR, report: TransferReport, addresses: Iterable[str]) -> None:
    """DetrofitError unless every tensor under each of `addresses` was taken over."""
    for address in addresses:
        asked_by = f"--require {address}"
        modules = [address] if address in report.kinds else modules_at(model, address, asked_by)
        inside = [name for name in report.kinds if any(under(name, module) for module in modules)]
        if not inside:
            raise DetrofitError(f"{asked_by}: what is there in this model has no weights")
        lost = [name for name in inside if report.kinds[name] != "kept" and not name.endswith(COUNTER)]
        if lost:
            raise DetrofitError(f"{asked_by}: {len(lost)} tensors under it were not kept, first '{lost[0]}'")


def _shares(counts: Iterable[Mapping[Kind, int]]) -> dict[Kind, float]:
    counts = list(counts)
    total = sum(sum(each.values()) for each in counts)
    return {kind: sum(each[kind] for each in counts) / max(1, total) for kind in _KINDS}


def _in_words(shares: Mapping[Kind, float]) -> str:
    return ", ".join(f"{_WORDS[kind]} {_percent(share)}" for kind, share in shares.items() if share)


def _percent(share: float) -> str:
    """Whole percents, but never 100 % or 0 % for what is not all or nothing."""
    return f"{share:.0%}" if share in (0, 1) or 0.005 <= share < 0.995 else f"{share:.2%}"


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
