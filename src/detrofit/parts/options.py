"""What a pydantic model of options allows, in words: for `detrofit parts`, the settings page and the parts' pages."""

from __future__ import annotations

import types
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


@dataclass(frozen=True)
class OptionRow:
    """One option: its name, default, what it allows and what it means, as text."""

    name: str
    default: str
    allowed: str
    meaning: str


def option_rows(model: type[BaseModel]) -> list[OptionRow]:
    """A row for each field of a model."""
    rows = []
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        text = "required" if default is PydanticUndefined else _value(default)
        allowed = _allowed(field.annotation, field.metadata)
        rows.append(OptionRow(name, text, allowed, field.description or ""))
    return rows


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


def _allowed(annotation: Any, metadata: Any = ()) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = [item for entry in arguments[1:] for item in getattr(entry, "metadata", [entry])]
        return _allowed(arguments[0], [*inner, *metadata])
    if origin is Literal:
        return ", ".join(_value(value) for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_allowed(argument, metadata) for argument in arguments)
    if annotation is type(None):
        return "none"
    if origin in (list, tuple):
        return "list of " + _allowed(next((argument for argument in arguments if argument is not ...), str))
    limits = [f"{_SIGNS[key]} {getattr(item, key)}" for item in metadata for key in _SIGNS if hasattr(item, key)]
    limits += [f"multiple of {item.multiple_of}" for item in metadata if isinstance(item, annotated_types.MultipleOf)]
    kind = {"int": "whole number", "float": "number", "bool": "true, false", "str": "text", "dict": "mapping"}
    name = getattr(origin or annotation, "__name__", str(annotation))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        name = "dict"
    return " ".join([kind.get(name, name.lower()), ", ".join(limits)]).strip()
