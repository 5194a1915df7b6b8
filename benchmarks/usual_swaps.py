"""What the scripts over the whole catalogue swap in: every part where it usually goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from detrofit.config.models import build
from detrofit.parts.registry import all_parts
from detrofit.parts.retrofit import expand_address
from detrofit.parts.trials import usual_retrofit


def usual_swaps(model: str) -> dict[str, dict[str, Any]]:
    """The usual retrofit of each of Detrofit's parts by name, without those that the model has there already."""
    with torch.device("meta"):
        stock = build(model, num_classes=1).slots
    swaps = {part.name: usual_retrofit(part) for part in all_parts() if part.origin.source == "detrofit"}
    return {name: retrofit for name, retrofit in swaps.items() if not _is_stock(stock, name, *retrofit)}


def _is_stock(stock: Mapping[str, Mapping[str, Any]], name: str, address: str) -> bool:
    return all(stock.get(single, {}).get("part") == name for single in expand_address(address))


def swap_text(retrofit: dict[str, Any]) -> str:
    """A retrofit as the `--swap` options that make it, without their quotes."""
    return " ".join(f"{address}={_choice_text(choice)}" for address, choice in retrofit.items())


def _choice_text(choice: Any) -> str:
    return choice if isinstance(choice, str) else "{" + ", ".join(f"{k}: {v}" for k, v in choice.items()) + "}"
