"""Plain values from what a pickle only names: each reader takes the recorded call and makes a value itself.

A reader gets `build`, which reads a value inside the call, and the call.  None runs anything of the file.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, NoReturn

import numpy as np
import torch

from resnetkit.errors import DamagedFile
from resnetkit.safe_pickle import Inert, checked_key
from resnetkit.torch_format.tensors import DTYPES, brief, strided

Build = Callable[[Any], Any]
Reader = Callable[[Build, Inert], Any]
NUMPY_KINDS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
TENSORS_WITHOUT_HOOKS = {"torch.Tensor", "torch.nn.parameter.Parameter"}


def stand_in(_: Build, call: Inert) -> Inert:
    """Keep nothing but the name."""
    return Inert(call.name)


def refuse(what: str) -> Reader:
    """Return a reader that refuses what it is called for."""

    def reader(_: Build, call: Inert) -> NoReturn:
        raise DamagedFile(f"{what} ({call.name}), which no ResNet has", "nothing was run")

    return reader


def mapping(build: Build, call: Inert) -> dict[Any, Any]:
    """Read an OrderedDict, Counter, defaultdict, Namespace or configuration as a dict."""
    first = call.args[0] if call.args else None
    pairs: list[Any] = []
    if isinstance(first, dict):
        pairs.extend(first.items())
    elif isinstance(first, list):  # an OrderedDict of Python 2
        pairs.extend(first)
    pairs.extend(call.items)
    if call.name == "argparse.Namespace":
        pairs.extend((call.state or {}).items())
    return {checked_key(build(key)): build(value) for key, value in pairs}


def sequence(build: Build, call: Inert) -> list[Any]:
    """Read a deque as a list."""
    first = call.args[0] if call.args else ()
    return [build(value) for value in (*first, *call.items)]


def value_set(build: Build, call: Inert) -> set[Any]:
    """Read a set or frozenset of scalars as a set."""
    return {checked_key(build(value)) for values in _args(call) for value in values}


def size(build: Build, call: Inert) -> tuple[Any, ...]:
    """Read a torch.Size as a tuple."""
    (values,) = _args(call)
    return tuple(build(value) for value in values)


def text(_: Build, call: Inert) -> str:
    """Read a torch.device ("cuda:1") or the version of torch as text."""
    if not all(isinstance(arg, str | int) for arg in _args(call)):
        raise TypeError(call.name)
    return ":".join(str(arg) for arg in _args(call))


def name_as_text(_: Build, call: Inert) -> str:
    """Read a torch.dtype as its name."""
    if call.args is not None:
        raise TypeError(f"{call.name} is called")
    return call.name


def complex_number(_: Build, call: Inert) -> complex:
    """Read a complex number."""
    real, imaginary = (float(part) for part in _args(call))
    return complex(real, imaginary)


def raw_bytes(_: Build, call: Inert) -> bytes:
    """Read bytes as Python 3 writes them in protocol 2: text to be encoded in Latin-1."""
    return _as_bytes(call)


def byte_array(_: Build, call: Inert) -> bytearray:
    """Read a bytearray: of nothing, of bytes, or of text to be encoded in Latin-1."""
    args = _args(call)
    return bytearray(_as_bytes(Inert("_codecs.encode", args) if len(args) == 2 else args[0] if args else b""))


def _args(call: Inert) -> tuple[Any, ...]:
    if call.args is None:
        raise TypeError(f"{call.name} is named and not called")
    return call.args


def _as_bytes(value: Any) -> bytes:
    if isinstance(value, Inert) and value.args is not None:
        if value.name == "_codecs.encode" and value.args[1] in {"latin1", "latin-1"}:
            value = value.args[0].encode("latin-1")
        elif value.name.endswith(".bytes") and not value.args:
            value = b""
    if isinstance(value, str):  # an old string, taken for text
        value = value.encode()
    if not isinstance(value, bytes):
        raise TypeError(f"{type(value).__name__} as bytes")
    return value


# NumPy


def numpy_scalar(_: Build, call: Inert) -> Any:
    """Read a NumPy scalar as a Python number; one of text, dates or objects is a stand-in."""
    dtype, content = _args(call)
    plain = _numpy_dtype(dtype)
    return Inert(call.name) if plain is None else np.frombuffer(_as_bytes(content), plain).reshape(()).item()


def numpy_array(_: Build, call: Inert) -> Any:
    """Read a NumPy array of numbers or booleans in the machine's byte order; any other is a stand-in."""
    _, shape, dtype, fortran_order, content = call.state
    plain = _numpy_dtype(dtype)
    if plain is None:
        return Inert("numpy.ndarray")
    data = _as_bytes(content)
    if not all(type(number) is int and number >= 0 for number in shape) or prod(shape) * plain.itemsize != len(data):
        raise DamagedFile(f"an array of {plain}, shape {brief(shape)}, has {len(data)} bytes")
    array = np.frombuffer(data, plain).reshape(shape, order="F" if fortran_order else "C")
    return array.astype(plain.newbyteorder("="))  # a copy, so that it can be written to


def _numpy_dtype(dtype: Any) -> np.dtype[Any] | None:
    """Return the dtype that a recorded call means, or None for one that is not of `NUMPY_KINDS`."""
    if not (isinstance(dtype, Inert) and dtype.name == "numpy.dtype" and dtype.args):
        raise TypeError("no dtype")
    kind = dtype.args[0].decode() if isinstance(dtype.args[0], bytes) else dtype.args[0]
    if kind not in NUMPY_KINDS:
        return None
    big = bool(dtype.state) and dtype.state[1] in {">", b">"}
    return np.dtype(kind).newbyteorder(">" if big else "<")


# Tensors: `build` of a storage gives a one-dimensional tensor


def tensor(build: Build, call: Inert) -> torch.Tensor:
    """Read a tensor: (storage, offset, sizes, strides, and in newer files requires_grad, hooks and more)."""
    storage, offset, sizes, strides, *rest = _args(call)
    base = build(storage)
    if call.name.endswith("_v3"):  # the dtype is named beside the storage, whose own is uint8
        base = _viewed(base, rest[2])
        rest = rest[:2] + rest[3:]
    if len(rest) > 2 and rest[2]:
        raise DamagedFile("a tensor with its sign or conjugation kept apart, which no ResNet has")
    return strided(base, offset, build(sizes), build(strides))


def _viewed(base: torch.Tensor, dtype: Any) -> torch.Tensor:
    name = dtype.name if isinstance(dtype, Inert) else type(dtype).__name__
    if name not in DTYPES:
        raise DamagedFile(f"a tensor of {name[:100]}", f"expected one of {', '.join(DTYPES)}")
    return base.view(DTYPES[name])


def parameter(build: Build, call: Inert) -> torch.Tensor:
    """Read a parameter as the tensor it holds; its attributes are dropped."""
    return _tensor_of(build(_args(call)[0]))


def tensor_with_attributes(build: Build, call: Inert) -> torch.Tensor:
    """Read a tensor that somebody hung attributes on, without them."""
    function, kind, args, _ = _args(call)
    if not isinstance(kind, Inert) or kind.name not in TENSORS_WITHOUT_HOOKS:
        raise DamagedFile("a tensor of a class of its own")
    return _tensor_of(build(Inert(function.name, args)))


def _tensor_of(value: Any) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise DamagedFile(f"a parameter holds {type(value).__name__} and no tensor")
    return value
