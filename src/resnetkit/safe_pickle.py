"""Read foreign pickles without running anything that they ask for.

A pickle is a program for a stack machine. This reader runs its own machine over the parsed opcodes: data
opcodes build plain values, a named global becomes an inert stand-in, and what the pickle wants called or
set up is only written down beside the stand-in. A global that the caller does not expect is an error.
Opcode meanings: the docstrings of the standard library's `pickletools`.
"""

from __future__ import annotations

import pickletools
import struct
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from mmap import mmap
from typing import IO, Any, NoReturn, cast

from resnetkit.errors import DamagedFile

PERSISTENT_ID = "persistent id"  # allow this name to get `Inert(PERSISTENT_ID, (id,))` for outside objects
MAX_DEPTH = 200  # containers inside containers; real files stay below 20
MAX_SIZE = 50_000_000  # values with every shared one counted each time it is reached
SHOWN_NAMES = 8


@dataclass(eq=False)
class Inert:
    """A global that a pickle names, and what it wanted done with it; nothing was imported or called."""

    name: str  # dotted, as in the file: "numpy.core.multiarray._reconstruct"
    args: tuple[Any, ...] | None = None  # of the recorded call; None: named, not called
    state: Any = None  # what the object was to be set up with
    items: list[Any] = field(default_factory=list)  # appended values, or (key, value) pairs


def read_pickle(data: bytes | mmap, allowed: frozenset[str], *, old_strings_are_text: bool = False) -> Any:
    """Return the value of a pickle of protocol 0 to 5, made of plain values and `Inert` stand-ins.

    Plain values are dict, list, tuple, int, float, str, bytes, bool and None; Python 2 strings become bytes
    (or str, where they are UTF-8 and `old_strings_are_text`), and so does a bytearray. Bytes after the end of
    the pickle are ignored; a mapped file is read from where it stands, and stands after the pickle then.
    `allowed` holds the dotted names of the globals that may occur. Raises DamagedFile, naming it, for any
    other global; also for sets, calls with keywords and old-style instances, for dict keys other than scalars
    and tuples of them, and for all that is not sound: cut short, a missing memo entry, a value inside itself,
    deeper than `MAX_DEPTH`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes in old strings are no business of the user
            value = _Machine(allowed, old_strings_are_text).run(data)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, struct.error) as error:
        raise DamagedFile("the pickle is damaged", f"got: {type(error).__name__}: {error}") from error
    _check_bounds(value)
    return value


def stand_ins(root: Any) -> Iterator[Inert]:
    """Yield every stand-in inside a value that `read_pickle` returned, or is itself; a shared one once."""
    seen: set[int] = set()
    todo = [root]
    while todo:
        value = todo.pop()
        if id(value) not in seen:
            seen.add(id(value))
            todo.extend(child for child in _children(value) if isinstance(child, _CONTAINERS))
            if isinstance(value, Inert):
                yield value


def checked_key(value: Any) -> Any:
    """Return `value` if it may be a key: a scalar or a tuple of them; else raises DamagedFile."""
    # Nested tuples are refused: the hash of one that shares its parts can take for ever.
    parts = value if isinstance(value, tuple) else (value,)
    if not all(part is None or isinstance(part, bool | int | float | str | bytes) for part in parts):
        _damaged("a dict key is not a scalar")
    return value


class _Machine:
    """The stack machine: `stack` holds values since the last mark, `outer` the stacks below each mark."""

    def __init__(self, allowed: frozenset[str], old_strings_are_text: bool) -> None:
        self.allowed = allowed
        self.old_strings_are_text = old_strings_are_text
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes | mmap) -> Any:
        for opcode, arg, _ in pickletools.genops(cast(IO[bytes], data)):  # a map reads like a file
            if opcode.name == "STOP":
                return self.stack.pop()
            if opcode.name not in _STEPS:
                _damaged(f"{opcode.name} {_shown(str(arg))}, which is not supported")
            _STEPS[opcode.name](self, arg)
        raise ValueError("no end")

    def pop_mark(self) -> list[Any]:
        values, self.stack = self.stack, self.outer.pop()
        return values

    def mark(self, _: Any) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:  # the mark itself is the topmost thing
            self.pop_mark()

    def put(self, key: int | None) -> None:
        self.memo[len(self.memo) if key is None else key] = self.stack[-1]

    def get(self, key: int) -> None:
        if key not in self.memo:
            _damaged("it refers to a memo entry that it never stored")
        self.stack.append(self.memo[key])

    def push_old_string(self, text: str) -> None:
        content: str | bytes = text.encode("latin-1")  # parsed as if it were Latin-1
        if self.old_strings_are_text:
            with suppress(UnicodeDecodeError):
                content = text.encode("latin-1").decode()
        self.stack.append(content)

    def push_tuple(self, length: int) -> None:
        values = tuple(self.stack.pop() for _ in range(length))
        self.stack.append(values[::-1])

    def fill(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Inert):
            target.items.extend(values)
        elif isinstance(target, list):
            target.extend(values)
        else:
            _damaged(f"it appends to {type(target).__name__}")

    def fill_pairs(self, values: list[Any]) -> None:
        target = self.stack[-1]
        pairs = list(zip(values[::2], values[1::2], strict=True))
        if isinstance(target, Inert):
            target.items.extend(pairs)
        elif isinstance(target, dict):
            target.update((checked_key(key), value) for key, value in pairs)
        else:
            _damaged(f"it sets items of {type(target).__name__}")

    def stand_in(self, name: str) -> None:
        if name not in self.allowed:
            few = len(self.allowed) <= SHOWN_NAMES
            raise DamagedFile(
                f"the pickle names {_shown(name)}, which is not among the names expected here",
                "nothing was run",
                f"expected: {', '.join(sorted(self.allowed)) or 'no names at all'}"
                if few
                else f"expected: one of {len(self.allowed)} harmless names",
            )
        self.stack.append(Inert(name))

    def stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            _damaged("it names a global by something that is not text")
        self.stand_in(f"{module}.{name}")

    def call(self, _: Any) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        if not (isinstance(function, Inert) and function.args is None and isinstance(args, tuple)):
            _damaged("it calls something that is not a named global")
        self.stack.append(Inert(function.name, args))

    def build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if state is target and isinstance(target, Inert):
            return  # a mapping that names itself as its state, as addict's do; its items say all
        if not isinstance(target, Inert) or target.state is not None:
            _damaged("it sets the state of something that cannot have one, or twice")
        target.state = state

    def persistent(self, key: Any) -> None:
        self.stand_in(PERSISTENT_ID)
        self.stack[-1].args = (key,)


_Step = Callable[[_Machine, Any], object]


def _push(value: Callable[[Any], Any]) -> _Step:
    return lambda machine, arg: machine.stack.append(value(arg))


_PLAIN = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE")
_TEXT_AND_BYTES = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8")
_STEPS: dict[str, _Step] = {
    **dict.fromkeys((*_PLAIN, *_TEXT_AND_BYTES), _push(lambda arg: arg)),
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, arg: None),  # hints; the opcodes say all
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _Machine.push_old_string),
    "BYTEARRAY8": _push(bytes),
    "NONE": _push(lambda arg: None),
    "NEWTRUE": _push(lambda arg: True),
    "NEWFALSE": _push(lambda arg: False),
    "EMPTY_LIST": _push(lambda arg: []),
    "EMPTY_DICT": _push(lambda arg: {}),
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": lambda machine, arg: machine.pop_mark(),
    "DUP": lambda machine, arg: machine.stack.append(machine.stack[-1]),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    "EMPTY_TUPLE": lambda machine, arg: machine.push_tuple(0),
    "TUPLE1": lambda machine, arg: machine.push_tuple(1),
    "TUPLE2": lambda machine, arg: machine.push_tuple(2),
    "TUPLE3": lambda machine, arg: machine.push_tuple(3),
    "TUPLE": lambda machine, arg: _collect(machine, tuple),
    "LIST": lambda machine, arg: _collect(machine, list),
    "DICT": lambda machine, arg: _collect(machine, _as_dict),
    "APPEND": lambda machine, arg: machine.fill([machine.stack.pop()]),
    "APPENDS": lambda machine, arg: machine.fill(machine.pop_mark()),
    "SETITEM": lambda machine, arg: machine.fill_pairs([machine.stack.pop(), machine.stack.pop()][::-1]),
    "SETITEMS": lambda machine, arg: machine.fill_pairs(machine.pop_mark()),
    "GLOBAL": lambda machine, arg: machine.stand_in(arg.replace(" ", ".", 1)),  # parsed as "module name"
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "BUILD": _Machine.build,
    "PERSID": _Machine.persistent,
    "BINPERSID": lambda machine, arg: machine.persistent(machine.stack.pop()),
}


def _collect(machine: _Machine, kind: Callable[[list[Any]], Any]) -> None:
    values = machine.pop_mark()
    machine.stack.append(kind(values))


def _as_dict(values: list[Any]) -> dict[Any, Any]:
    return {checked_key(key): value for key, value in zip(values[::2], values[1::2], strict=True)}


def _shown(name: str) -> str:
    return ascii(name if len(name) <= 100 else f"{name[:100]}...")[1:-1]


def _damaged(why: str) -> NoReturn:
    raise DamagedFile("the pickle is damaged", f"got: {why}")


_CONTAINERS = (dict, list, tuple, Inert)


def _children(value: Any) -> Collection[Any]:
    if isinstance(value, Inert):
        return (value.args, value.state, value.items)
    if isinstance(value, dict):
        return value.values()  # keys are scalars or flat
    return value if isinstance(value, list | tuple) else ()


def _check_bounds(root: Any) -> None:
    """Refuse a value that contains itself, is too deep, or is huge once its shared parts are written out."""
    size: dict[int, int] = {}  # of containers by id; an entry means that all inside is known
    depth: dict[int, int] = {}
    entered: dict[int, tuple[int, list[Any]]] = {}  # the scalars in a container, and the containers
    todo = [root]
    while todo:
        value = todo[-1]
        if id(value) in size:
            todo.pop()
        elif id(value) in entered:
            todo.pop()
            scalars, inner = entered.pop(id(value))
            size[id(value)] = 1 + scalars + sum([size[id(child)] for child in inner])
            depth[id(value)] = 1 + max([depth[id(child)] for child in inner], default=min(1, scalars))
        else:
            children = _children(value)
            inner = [child for child in children if isinstance(child, _CONTAINERS)]
            entered[id(value)] = len(children) - len(inner), inner
            if any(id(child) in entered for child in inner):
                _damaged("a value contains itself")
            todo.extend(child for child in inner if id(child) not in size)
    if depth[id(root)] > MAX_DEPTH or size[id(root)] > MAX_SIZE:
        _damaged(f"values are nested more than {MAX_DEPTH} deep, or share parts {MAX_SIZE} times")
