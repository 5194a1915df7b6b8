"""The parameters and buffers of a torch module that was pickled whole, from the inert records of it."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import Tensor

from detrofit.errors import DetrofitError
from detrofit.weights.inert_pickle import Inert

Kind = TypeVar("Kind")

_MOST_NAMES, _LONGEST_NAME = 50_000, 500  # of modules and tensors inside one module


def module_tensors(module: Inert) -> dict[str, Tensor]:
    """The parameters and buffers of a pickled torch module by their names, as its `state_dict` would give them.

    Raises DetrofitError for a module that contains itself, or more than any detector does.
    """
    tensors: dict[str, Tensor] = {}
    entries = 0
    for name, inner in modules_of(module).items():
        for group in ("_parameters", "_buffers"):
            values = plain_state(inner, group)
            entries += len(values)
            if entries > _MOST_NAMES:
                raise DetrofitError("its modules have more tensors than any detector's")
            tensors |= {_inside(name, key): value for key, value in _of_type(values, Tensor)}
    return tensors


def modules_of(module: Inert) -> dict[str, Inert]:
    """A pickled torch module and all inside it by name, in the order of its `named_modules`."""
    found: dict[str, Inert] = {}
    waiting: list[tuple[str, Inert]] = [("", module)]
    entries = 0
    while waiting:
        name, inner = waiting.pop()
        found[name] = inner
        values = plain_state(inner, "_modules")
        entries += len(values)
        if entries > _MOST_NAMES:
            raise DetrofitError("it has more modules than any detector")
        waiting += [(_inside(name, key), value) for key, value in reversed(_of_type(values, Inert))]
    return found


def plain_state(module: Inert, key: str) -> dict[Any, Any]:
    """A dictionary in the state of a record; empty where there is none."""
    value = module.state.get(key) if isinstance(module.state, dict) else None
    return value if isinstance(value, dict) else {}


def _of_type(values: dict[Any, Any], kind: type[Kind]) -> list[tuple[str, Kind]]:
    return [(key, value) for key, value in values.items() if isinstance(key, str) and isinstance(value, kind)]


def _inside(name: str, key: str) -> str:
    inside = f"{name}.{key}" if name else key
    if len(inside) > _LONGEST_NAME:
        raise DetrofitError("its modules are nested deeper than any detector's")
    return inside
