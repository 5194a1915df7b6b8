"""The parts: how one declares itself, how its options are checked, where it comes from."""

from __future__ import annotations

import contextvars
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from torch import nn

from detrofit.errors import DetrofitError, nearest
from detrofit.parts.slots import Slot
from detrofit.version import __version__

Module = TypeVar("Module", bound=type[nn.Module])
ENTRY_POINT_GROUP = "detrofit.parts"
_RESERVED = "check"  # `detrofit parts check` is a command


@dataclass(frozen=True)
class Origin:
    """Where a part comes from: a distribution and its version, or a file's name and SHA-256 (never its path)."""

    source: str
    version: str

    def to_dict(self) -> dict[str, str]:
        return {"source": self.source, "version": self.version}


@dataclass(frozen=True)
class Part:
    """A part as its file declares it; the signature of `build` is the one source of its options."""

    name: str
    build: type[nn.Module]
    fits: tuple[Slot, ...]
    paper: str
    licence: str
    can_stride: bool | Callable[[Mapping[str, Any]], bool]
    can_widen: bool
    size_multiple: int
    channel_multiple: int | Callable[[Mapping[str, Any]], int]
    slots: tuple[Slot, ...]
    origin: Origin

    @cached_property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The constructor's parameters."""
        return inspect.signature(self.build.__init__).parameters

    @cached_property
    def options(self) -> type[BaseModel]:
        """Keyword-only parameters as a validated model: types, defaults and ranges; unknown names are errors.

        Raises DetrofitError for one without a type, or of a type that no option can have.
        """
        given = {name: value for name, value in self.parameters.items() if value.kind is value.KEYWORD_ONLY}
        untyped = [name for name, value in given.items() if value.annotation is value.empty]
        if untyped:
            raise DetrofitError(f"part '{self.name}': option '{untyped[0]}' has no type; annotate it")
        config = ConfigDict(extra="forbid", protected_namespaces=(), allow_inf_nan=False)
        try:
            hints = get_type_hints(self.build.__init__, include_extras=True)
            fields: dict[str, Any] = {
                name: (hints[name], ... if value.default is value.empty else value.default)
                for name, value in given.items()
            }
            return create_model("Options", __config__=config, **fields)
        except Exception as error:  # a name that means nothing, a type that pydantic does not know, bounds of another
            reason = str(error).splitlines()[0]
            raise DetrofitError(f"part '{self.name}': its options cannot be read: {reason}") from None

    @property
    def summary(self) -> str:
        """The first paragraph of the docstring, on one line."""
        return " ".join((inspect.getdoc(self.build) or "").split("\n\n")[0].split())

    def strides_with(self, options: Mapping[str, Any]) -> bool:
        """Whether it takes `stride` 2 with these options."""
        return self.can_stride(options) if callable(self.can_stride) else self.can_stride

    def channel_multiple_with(self, options: Mapping[str, Any]) -> int:
        """What channel numbers must be multiples of with these options."""
        return self.channel_multiple(options) if callable(self.channel_multiple) else self.channel_multiple

    def accepts(self, numbers: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the frame's numbers that the constructor asks for."""
        return {name: value for name, value in numbers.items() if name in self.parameters}


_PARTS: dict[str, Part] = {}
_loading: contextvars.ContextVar[Origin | None] = contextvars.ContextVar("loading", default=None)


def part(
    name: str,
    *,
    fits: Sequence[Slot],
    paper: str = "",
    licence: str = "",
    can_stride: bool | Callable[[Mapping[str, Any]], bool] = False,
    can_widen: bool = False,
    size_multiple: int = 1,
    channel_multiple: int | Callable[[Mapping[str, Any]], int] = 1,
    slots: Sequence[Slot] = (),
) -> Callable[[Module], Module]:
    """Declare a module class as a part.

    Args:
        name: what users type; "check" is taken by a command.
        fits: the slots that it fits, the most usual first.
        paper: its source (arXiv id), and `licence`: the licence situation of the original code.
        can_stride: takes `stride` 2, always or with these options. Otherwise the frame downsamples before it.
        can_widen: takes `out_channels` other than `in_channels`. Otherwise the frame puts a 1x1 before it.
        size_multiple: heights and widths must be multiples of it; the frame pads at the bottom and right.
        channel_multiple: channel numbers must be multiples of it, always or with these options; others are refused.
        slots: the slots that it offers inside itself; its constructor then takes `slots`, a `SlotFiller`.
    """

    def register(build: Module) -> Module:
        origin = _loading.get() or Origin("detrofit", __version__)
        if isinstance(fits, Slot) or not fits:
            raise DetrofitError(f"the part '{name}' of {origin.source} fits no slot; name some: fits=[STAGE_BLOCK]")
        if name == _RESERVED:
            raise DetrofitError(f"the part name '{name}' of {origin.source} means a command; choose another name")
        known = _PARTS.get(name)
        if known and (known.origin.source, known.build.__qualname__) != (origin.source, build.__qualname__):
            raise DetrofitError(
                f"the part name '{name}' of {origin.source} is taken by {known.origin.source}; choose another name"
            )
        _PARTS[name] = Part(
            name, build, tuple(fits), paper, licence, can_stride, can_widen, size_multiple, channel_multiple,
            tuple(slots), origin,
        )  # fmt: skip
        return build

    return register


@lru_cache(maxsize=1)
def _discover() -> None:
    """Import every file in the folders of parts, and the packages that declare the entry point group."""
    package = importlib.import_module("detrofit.parts")
    for module in pkgutil.walk_packages(package.__path__, "detrofit.parts."):
        importlib.import_module(module.name)
    for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        distribution = entry.dist
        token = _loading.set(Origin(distribution.name, distribution.version) if distribution else None)
        try:
            entry.load()
        finally:
            _loading.reset(token)


def load_plugins(files: Iterable[str | Path]) -> None:
    """Import parts from files outside the package (`--plugin`). This runs their code: only files of one's own choice.

    Raises DetrofitError for a file that is missing, fails to import, or takes a known part's name.
    """
    _discover()
    for file in map(Path, files):
        if not file.is_file():
            raise DetrofitError(f"plug-in {file} does not exist")
        digest = _digest(file)
        module_name = f"detrofit_plugin_{digest[:16]}"
        if module_name in sys.modules:
            continue
        spec = importlib.util.spec_from_file_location(module_name, file)
        if spec is None or spec.loader is None:
            raise DetrofitError(f"plug-in {file} is not a Python file (*.py)")
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        token = _loading.set(Origin(file.name, digest))
        try:
            spec.loader.exec_module(module)
        except DetrofitError:
            del sys.modules[module_name]
            raise
        except Exception as error:
            del sys.modules[module_name]
            raise DetrofitError(f"plug-in {file} failed to import: {type(error).__name__}: {error}") from error
        finally:
            _loading.reset(token)


def parts_of_file(file: Path) -> list[Part]:
    """Import a plug-in (see `load_plugins`) and return the parts that it declares, by name.

    Raises DetrofitError as `load_plugins`, and for a file that declares none.
    """
    load_plugins([file])
    digest = _digest(file)
    found = [candidate for candidate in all_parts() if candidate.origin.version == digest]
    if not found:
        raise DetrofitError(f"{file} declares no part; put the decorator @part before its class")
    return found


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def all_parts() -> Iterator[Part]:
    """Every known part, by name."""
    _discover()
    yield from (_PARTS[name] for name in sorted(_PARTS))


def get_part(name: str) -> Part:
    """The part of that name; DetrofitError with the nearest spelling otherwise."""
    _discover()
    if name not in _PARTS:
        hint = nearest(name, _PARTS) or "; `detrofit parts` lists them, --plugin FILE adds one"
        raise DetrofitError(f"there is no part '{name}'{hint}")
    return _PARTS[name]


def parts_for(slot: Slot) -> list[Part]:
    """The parts that fit a slot, by name."""
    return [candidate for candidate in all_parts() if slot in candidate.fits]


def validated(model: type[BaseModel], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`values` checked by a pydantic model, defaults filled in; DetrofitError naming `where` and the option."""
    try:
        return model(**values).model_dump()
    except ValidationError as error:
        raise DetrofitError(f"{where}: {_explain(model, error)}") from None


def _explain(model: type[BaseModel], error: ValidationError) -> str:
    first = error.errors()[0]
    option = ".".join(str(piece) for piece in first["loc"])
    allowed = list(model.model_fields)
    if first["type"] == "extra_forbidden":
        return f"unknown option '{option}'{nearest(option, allowed)}; allowed: {', '.join(allowed) or 'none'}"
    if first["type"] == "missing":
        return f"option '{option}' is required"
    return f"option '{option}' = {first['input']!r}: {first['msg'].lower()}"
