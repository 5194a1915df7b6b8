"""Reading pickles of any program without running anything: an interpreter of pickle's own instructions.

Every class and function that a pickle names stays a name (`Named`), every object made of it a record (`Inert`) of what
it was given. Nothing is imported and nothing called; dictionaries, lists, tuples and plain values are built, and what
else to build is the caller's to say. Work and memory grow with the length of the pickle alone.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from detrofit.errors import DetrofitError

LONGEST = 16 * 2**20  # bytes; a whole detector with its optimizer takes less than one million
_MOST_INSTRUCTIONS = 3_000_000  # the same takes some hundred thousand; each may cost two hundred bytes of memory
_LONGEST_NAME = 300
_PLAIN_KEYS = (str, bytes, int, float, bool, type(None))
_LARGEST_KEY = 2**60  # larger numbers may be chosen such that all have one hash, and a dictionary takes for ever


@dataclass(frozen=True)
class Named:
    """A class or function that a pickle asks for, by name only."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False, repr=False)
class Inert:
    """An object that was not made: what it would have been, its arguments, its state and what was put into it.

    Any of these may be nested beyond measure, so they are not to be printed; `name` is.
    """

    kind: Any
    arguments: Any = ()
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)
    elements: list[Any] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Of the class or function that it would have been of, if it was named."""
        return str(self.kind) if isinstance(self.kind, Named) else "nameless object"


# What to make of a call of `Named` with arguments; NotImplemented leaves it an `Inert`.
Rebuild = Callable[[Named, tuple[Any, ...]], Any]


def read_pickle(
    data: bytes | BinaryIO,
    rebuild: Rebuild = lambda named, arguments: NotImplemented,
    persistent: Callable[[Any], Any] = lambda identifier: identifier,
) -> Any:
    """The object in a pickle, of inert records and plain values.

    Args:
        data: the pickle, or a file that stands before one and behind it afterwards.
        rebuild: makes known harmless objects, e.g. tensors.
        persistent: makes what the pickle keeps outside itself, from its identifier.

    Raises DetrofitError for a pickle that is damaged, too long, or of a kind that no checkpoint has.
    """
    if isinstance(data, bytes) and len(data) > LONGEST:
        raise DetrofitError(f"its pickle of {len(data) / 2**20:.0f} MB is longer than any checkpoint's")
    machine = _Machine(rebuild, persistent)
    try:
        for number, (instruction, argument, _) in enumerate(pickletools.genops(data)):
            if number > _MOST_INSTRUCTIONS:
                raise DetrofitError("its pickle has more instructions than any checkpoint's")
            machine.step(instruction.name, argument)
        return machine.result()
    except DetrofitError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, SyntaxError) as error:
        reason = str(error).partition("\n")[0][:120] or type(error).__name__
        raise DetrofitError(f"its pickle is damaged: {reason}") from None


_MARK = object()
_CONSTANTS: Mapping[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: Mapping[str, Callable[[], Any]] = {
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,  # members may be anything here, also what has no hash
    "EMPTY_TUPLE": tuple,
}
_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}


class _Machine:
    """Pickle's stack machine."""

    def __init__(self, rebuild: Rebuild, persistent: Callable[[Any], Any]) -> None:
        self._rebuild, self._persistent = rebuild, persistent
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Carry out one instruction."""
        if name in _VALUES:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self._stack.append(_EMPTY[name]())
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        else:
            raise DetrofitError(f"its pickle has the instruction {name}, which no checkpoint has")

    def result(self) -> Any:
        if len(self._stack) != 1 or self._stack[0] is _MARK:
            raise ValueError("it ends with something left over")
        return self._stack[0]

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise ValueError("a value is missing")
        return value

    def _since_mark(self) -> list[Any]:
        for position in range(len(self._stack) - 1, -1, -1):
            if self._stack[position] is _MARK:
                values = self._stack[position + 1 :]
                del self._stack[position:]
                return values
        raise ValueError("a mark is missing")

    def _tuple(self, length: int) -> None:
        values = [self._pop() for _ in range(length)]
        self._stack.append(tuple(reversed(values)))

    def _global(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a class without a name")
        if len(module + name) > _LONGEST_NAME or not (module + name).isprintable():
            raise ValueError("a class with a name that none has")
        self._stack.append(Named(module, name))

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        self._global(module, name)

    def _make(self, kind: Any, arguments: Any) -> None:
        made: Any = NotImplemented
        if isinstance(kind, Named) and isinstance(arguments, tuple):
            made = self._rebuild(kind, arguments)
        self._stack.append(Inert(kind, arguments) if made is NotImplemented else made)

    def _reduce(self, extra: int = 0) -> None:
        """A call; `extra` are keyword arguments, which are dropped."""
        for _ in range(extra):
            self._pop()
        arguments, kind = self._pop(), self._pop()
        self._make(kind, arguments)

    def _instance(self, argument: Any) -> None:
        values = self._since_mark()
        if argument is None:
            self._make(values[0], tuple(values[1:]))
        else:
            self._global(*argument.split(" ", 1))
            self._make(self._pop(), tuple(values))

    def _build(self) -> None:
        state = self._pop()
        if isinstance(self._stack[-1], Inert):
            self._stack[-1].state = state

    def _set_items(self, pairs: list[Any]) -> None:
        target = self._stack[-1]
        items = target.items if isinstance(target, Inert) else target
        if not isinstance(items, dict) or len(pairs) % 2:
            raise ValueError("entries for something that is no dictionary")
        for key, value in zip(pairs[::2], pairs[1::2]):
            # A hash of nested tuples can take for ever; no entry with such a key is a weight.
            if isinstance(key, _PLAIN_KEYS) and not (isinstance(key, int) and abs(key) > _LARGEST_KEY):
                items[key] = value

    def _append(self, values: list[Any]) -> None:
        target = self._stack[-1]
        elements = target.elements if isinstance(target, Inert) else target
        if not isinstance(elements, list):
            raise ValueError("elements for something that is no list")
        elements.extend(values)

    def _dict(self) -> None:
        pairs = self._since_mark()
        self._stack.append({})
        self._set_items(pairs)

    def _pair(self) -> list[Any]:
        value, key = self._pop(), self._pop()
        return [key, value]

    def _put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]


_ACTIONS: Mapping[str, Callable[[_Machine, Any], Any]] = {
    "PROTO": lambda machine, argument: None,
    "FRAME": lambda machine, argument: None,
    "STOP": lambda machine, argument: None,
    "MARK": lambda machine, argument: machine._stack.append(_MARK),
    "POP": lambda machine, argument: machine._stack.pop(),
    "POP_MARK": lambda machine, argument: machine._since_mark(),
    "DUP": lambda machine, argument: machine._stack.append(machine._stack[-1]),
    "TUPLE": lambda machine, argument: machine._stack.append(tuple(machine._since_mark())),
    "TUPLE1": lambda machine, argument: machine._tuple(1),
    "TUPLE2": lambda machine, argument: machine._tuple(2),
    "TUPLE3": lambda machine, argument: machine._tuple(3),
    "LIST": lambda machine, argument: machine._stack.append(machine._since_mark()),
    "FROZENSET": lambda machine, argument: machine._stack.append(machine._since_mark()),
    "APPEND": lambda machine, argument: machine._append([machine._pop()]),
    "APPENDS": lambda machine, argument: machine._append(machine._since_mark()),
    "ADDITEMS": lambda machine, argument: machine._append(machine._since_mark()),
    "DICT": lambda machine, argument: machine._dict(),
    "SETITEM": lambda machine, argument: machine._set_items(machine._pair()),
    "SETITEMS": lambda machine, argument: machine._set_items(machine._since_mark()),
    "PUT": lambda machine, argument: machine._put(argument),
    "BINPUT": lambda machine, argument: machine._put(argument),
    "LONG_BINPUT": lambda machine, argument: machine._put(argument),
    "MEMOIZE": lambda machine, argument: machine._put(len(machine._memo)),
    "GET": lambda machine, argument: machine._stack.append(machine._memo[argument]),
    "BINGET": lambda machine, argument: machine._stack.append(machine._memo[argument]),
    "LONG_BINGET": lambda machine, argument: machine._stack.append(machine._memo[argument]),
    "GLOBAL": lambda machine, argument: machine._global(*argument.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, argument: machine._stack_global(),
    "REDUCE": lambda machine, argument: machine._reduce(),
    "NEWOBJ": lambda machine, argument: machine._reduce(),
    "NEWOBJ_EX": lambda machine, argument: machine._reduce(extra=1),
    "INST": lambda machine, argument: machine._instance(argument),
    "OBJ": lambda machine, argument: machine._instance(None),
    "BUILD": lambda machine, argument: machine._build(),
    "PERSID": lambda machine, argument: machine._stack.append(machine._persistent(argument)),
    "BINPERSID": lambda machine, argument: machine._stack.append(machine._persistent(machine._pop())),
}
