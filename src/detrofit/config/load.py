"""From a YAML file and overrides to a checked experiment."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from detrofit.config.schema import Experiment
from detrofit.errors import DetrofitError, nearest
from detrofit.model.frame import Frame

_BY_ADDRESS = ("retrofit", "lr_by_slot")  # settings whose own keys are addresses, dots and all
# Options of `detrofit train` that are not called as the settings that they stand for.
_OPTIONS = {
    "swap": "retrofit",
    "plugin": "plugins",
    **{name: f"train.{name}" for name in ("epochs", "batch", "lr", "save_every", "freeze", "teacher", "warm_start")},
}


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file; DetrofitError for a missing file, bad YAML or anything but a mapping."""
    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except FileNotFoundError:
        raise DetrofitError(f"configuration {file} does not exist") from None
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: no UTF-8, or a date like 2024-13-45
        raise DetrofitError(f"configuration {file} is no readable YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise DetrofitError(f"configuration {file} must hold a mapping of settings")
    return content


def parse_assignments(assignments: Iterable[str], option: str) -> dict[str, Any]:
    """`KEY=VALUE` texts as a mapping; values are YAML."""
    result: dict[str, Any] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise DetrofitError(f"{option} takes KEY=VALUE, not '{text}'")
        try:
            parsed = yaml.safe_load(value)
        except (ValueError, yaml.YAMLError) as error:
            raise DetrofitError(f"{option} {key}: no readable YAML value: {' '.join(str(error).split())}") from None
        result.pop(key.strip(), None)  # of two addresses for one slot the last counts
        result[key.strip()] = parsed
    return result


def merge_dotted(base: Mapping[str, Any], dotted: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with values under dotted keys (`train.lr`) laid over it; `base` stays as it is.

    A value goes behind what is there, since of two addresses for one slot the last counts. Raises DetrofitError
    where a key leads into a value that is no mapping.
    """
    result = dict(base)
    for key, value in dotted.items():
        head, dot, rest = key.partition(".")
        if not dot:
            result[head] = value
            continue
        inner = result.get(head)
        if head == "model" and isinstance(inner, str):
            inner = {"name": inner}
        if not isinstance(inner, (Mapping, type(None))):
            raise DetrofitError(f"setting '{head}' = {inner!r} must be a mapping, or '{key}' has no place")
        inner = dict(inner or {})
        if head in _BY_ADDRESS:
            inner.pop(rest, None)
            result[head] = {**inner, rest: value}
        else:
            result[head] = merge_dotted(inner, {rest: value})
    return result


def setting_names(options: Mapping[Any, Any]) -> dict[str, Any]:
    """Values by the keys of settings, some of which may go by the name of their option of `detrofit train`."""
    named: dict[str, Any] = {}
    for key, value in options.items():
        name = _OPTIONS.get(str(key), str(key))
        if name in named:
            raise DetrofitError(f"'{key}' and '{name}' are the same setting, given twice; leave one out")
        named[name] = value
    return named


def read_settings(file: Path) -> dict[str, Any]:
    """The settings in a YAML file, whose keys may be dotted or the names of options, too; DetrofitError as `read_yaml`.

    What has a longer key goes over what has a shorter one: `train.lr` over the `lr` in `train`.
    """
    named = setting_names(read_yaml(file))
    return merge_dotted({}, {key: named[key] for key in sorted(named, key=lambda key: key.count("."))})


def load_experiment(values: Mapping[str, Any]) -> Experiment:
    """A checked experiment; DetrofitError with the key, the reason and, for an unknown key, the nearest valid one."""
    try:
        return Experiment.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(piece) for piece in first["loc"])
        if first["type"] == "extra_forbidden":
            raise DetrofitError(
                f"there is no setting '{key}' (docs/settings.md has all){_nearest_setting(key)}"
            ) from None
        if first["type"] == "missing":
            raise DetrofitError(f"setting '{key}' is required") from None
        if first["type"] == "model_type":
            raise DetrofitError(f"setting '{key}' = {first['input']!r} must be a mapping of settings") from None
        raise DetrofitError(f"setting '{key}' = {first['input']!r}: {first['msg'].lower()}") from None


def _nearest_setting(key: str) -> str:
    """The hint for an unknown key: the setting of that very name in another section, or the nearest spelling."""
    known = [*setting_keys(), *(f"model.{name}" for name in Frame.model_fields)]
    last = key.rpartition(".")[2]
    by_last = {name.rpartition(".")[2]: name for name in reversed(known)}
    if last not in by_last:
        hint = nearest(key, known)
        close = difflib.get_close_matches(last, by_last, n=1)
        if hint or not close:
            return hint
        last = close[0]
    return f"; did you mean '{by_last[last]}'?"


def setting_keys(model: type[BaseModel] = Experiment, prefix: str = "") -> list[str]:
    """Every setting's dotted key."""
    keys: list[str] = []
    for name, field in model.model_fields.items():
        section = _section(field.annotation)
        keys += setting_keys(section, f"{prefix}{name}.") if section else [prefix + name]
    return keys


def _section(annotation: Any) -> type[BaseModel] | None:
    candidates = (annotation, *get_args(annotation))
    return next((item for item in candidates if isinstance(item, type) and issubclass(item, BaseModel)), None)
