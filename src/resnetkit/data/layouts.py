"""The official python and binary layouts of CIFAR, and the PNG layout of the npm copy, as the same arrays.

python: `data_batch_1` ... `test_batch`, each a Python 2 pickle of a dict: `labels` is a list and `data` an array,
uint8 [n, 3 * side * side]; of CIFAR-100 `train` and `test`, with `fine_labels`;
binary: the same names with `.bin`, each record one label byte, then the pixels; of CIFAR-100 a coarse label before;
both store a picture as its red, then green, then blue plane, row by row.
png: `data_batch_1.png` ..., one picture a row of RGB pixels; labels in two JSON lists.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
from PIL import Image

from resnetkit.data.spec import DatasetSpec
from resnetkit.errors import DamagedFile
from resnetkit.safe_pickle import Inert, read_pickle

_MODULES = ("numpy.core", "numpy._core")  # the name before and since NumPy 2
_RECONSTRUCT = frozenset(f"{module}.multiarray._reconstruct" for module in _MODULES)
_FROMBUFFER = frozenset(f"{module}.numeric._frombuffer" for module in _MODULES)
ARRAY_GLOBALS = _RECONSTRUCT | _FROMBUFFER | {"numpy.ndarray", "numpy.dtype", "_codecs.encode"}

Decoded = tuple[np.ndarray | None, np.ndarray | None]  # uint8 images [n, side, side, 3], uint8 labels [n]


@dataclass(frozen=True)
class SourceFile:
    """One file of a layout: where its content belongs, and how large it may be."""

    split: str  # "train" or "test"
    images: int  # count in this file, or that its labels belong to
    max_bytes: int
    decode: Callable[[bytes, int, int], Decoded]  # content, images, side


def layout_files(spec: DatasetSpec) -> dict[str, dict[str, SourceFile]]:
    """Return for each layout its files by name, in the official order."""
    batches = batch_files(spec)
    pixels, label_bytes = 3 * spec.side**2, 2 if spec.two_labels else 1
    decode_python = partial(_decode_python, labels_key="fine_labels" if spec.two_labels else "labels")
    decode_binary = partial(_decode_binary, label_bytes=label_bytes)
    layouts: dict[str, dict[str, SourceFile]] = {"python": {}, "binary": {}}
    for name, (split, count) in batches.items():
        layouts["python"][name] = SourceFile(split, count, pixels * count + slack(count), decode_python)
        layouts["binary"][f"{name}.bin"] = SourceFile(split, count, (pixels + label_bytes) * count, decode_binary)
    if spec.npm_package:
        layouts["png"] = png_files(spec, batches)
    return layouts


def batch_files(spec: DatasetSpec) -> dict[str, tuple[str, int]]:
    """Return split and number of images of each batch, by its name without an ending."""
    if spec.two_labels:
        return {"train": ("train", spec.train_images), "test": ("test", spec.test_images)}
    each = spec.train_images // spec.train_files
    batches = {f"data_batch_{index}": ("train", each) for index in range(1, spec.train_files + 1)}
    return batches | {"test_batch": ("test", spec.test_images)}


def png_files(spec: DatasetSpec, batches: dict[str, tuple[str, int]]) -> dict[str, SourceFile]:
    """Return the files of the npm copy, under the package's own spelling."""
    pixels = 3 * spec.side**2
    files = {f"{name}.png": SourceFile(split, count, pixels * count + slack(count), _decode_png)
             for name, (split, count) in batches.items()}  # fmt: skip
    for split, count in (("train", spec.train_images), ("test", spec.test_images)):
        files[f"{split}_lables.json"] = SourceFile(split, count, 2**10 + 8 * count, _decode_json)
    return files


def slack(count: int) -> int:
    """Return the bytes that labels, file names and headers of a batch may take."""
    return 2**20 + 512 * count


def read_arrays(spec: DatasetSpec, contents: Iterable[tuple[str, bytes]], origin: str) -> dict[str, np.ndarray]:
    """Return the four arrays (uint8, see `ARRAYS` of spec.py) from the (name, content) pairs of a source.

    Raises DamagedFile for a file that is not what its layout says, or when no layout is there completely;
    the arrays' hashes are not looked at.
    """
    layouts = layout_files(spec)
    files = {name: file for layout in layouts.values() for name, file in layout.items()}
    decoded: dict[str, Decoded] = {}
    for name, content in contents:
        try:
            decoded[name] = files[name].decode(content, files[name].images, spec.side)
        except DamagedFile as error:
            raise DamagedFile(f"{name} in {origin}: {error.what}", *error.details) from error
    for layout in layouts.values():
        if layout.keys() <= decoded.keys():
            return _joined({name: (file.split, decoded[name]) for name, file in layout.items()})
    raise DamagedFile(
        f"{origin} does not hold {spec.name} completely",
        f"got: {', '.join(sorted(decoded)) or 'none of its files'}",
        *(f"expected: {', '.join(layout)} ({name} layout)" for name, layout in layouts.items()),
    )


def _joined(files: dict[str, tuple[str, Decoded]]) -> dict[str, np.ndarray]:
    parts: dict[str, list[np.ndarray]] = {}
    for split, (images, labels) in files.values():
        for kind, part in (("images", images), ("labels", labels)):
            if part is not None:
                parts.setdefault(f"{split}_{kind}", []).append(part)
    return {array: np.concatenate(pieces) for array, pieces in parts.items()}


def _decode_python(content: bytes, images: int, side: int, *, labels_key: str) -> Decoded:
    batch = read_pickle(content, ARRAY_GLOBALS)
    if not isinstance(batch, dict):
        raise DamagedFile("the pickle is not a batch", f"got: {type(batch).__name__}", "expected: dict")
    data, labels = (batch.get(key, batch.get(key.encode())) for key in ("data", labels_key))
    planes = pickled_array(data)
    if planes.dtype != np.uint8 or planes.shape != (images, 3 * side**2):
        raise DamagedFile(
            "the batch has other pixels",
            f"got: {planes.dtype} {list(planes.shape)}",
            f"expected: uint8 [{images}, {3 * side**2}]",
        )
    return _from_planes(planes, side), _as_labels(labels, images)


def _decode_binary(content: bytes, images: int, side: int, *, label_bytes: int) -> Decoded:
    record = label_bytes + 3 * side**2
    if len(content) != images * record:
        raise DamagedFile("wrong size", f"got: {len(content)} bytes", f"expected: {images * record} bytes")
    records = np.frombuffer(content, np.uint8).reshape(images, record)
    return _from_planes(records[:, label_bytes:], side), records[:, label_bytes - 1].copy()


def _decode_png(content: bytes, images: int, side: int) -> Decoded:
    expected = ("RGB", (side * side, images))
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if (image.mode, image.size) != expected:  # before anything is unpacked
                raise DamagedFile("not the picture table", f"got: {image.mode}, {image.size}", f"expected: {expected}")
            return np.asarray(image).reshape(images, side, side, 3), None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DamagedFile("not a sound PNG", f"got: {error}") from error


def _decode_json(content: bytes, images: int, side: int) -> Decoded:
    try:
        return None, _as_labels(json.loads(content), images)
    except (ValueError, RecursionError) as error:
        raise DamagedFile("not a JSON list of labels", f"got: {error}") from error


def _from_planes(planes: np.ndarray, side: int) -> np.ndarray:
    images = planes.reshape(-1, 3, side, side).transpose(0, 2, 3, 1)  # [n, 3*side*side] -> [n, side, side, 3]
    return np.ascontiguousarray(images)


def _as_labels(labels: Any, images: int) -> np.ndarray:
    if not isinstance(labels, list) or len(labels) != images:
        got = f"{len(labels)} of them" if isinstance(labels, list) else type(labels).__name__
        raise DamagedFile("wrong labels", f"got: {got}", f"expected: a list of {images}")
    if not all(type(label) is int and 0 <= label < 256 for label in labels):
        raise DamagedFile("wrong labels", "expected: whole numbers from 0 to 255")
    return np.array(labels, np.uint8)


def pickled_array(value: Any) -> np.ndarray:
    """Return the uint8 array that a pickle of one describes, in any way NumPy has written it.

    `value` comes from `read_pickle(..., ARRAY_GLOBALS)`. Raises DamagedFile for anything else.
    """
    try:
        if isinstance(value, Inert) and value.name in _RECONSTRUCT:
            _, shape, dtype, fortran_order, content = value.state
            return _array(_bytes(content), dtype.args[0], shape, "F" if fortran_order else "C")
        if isinstance(value, Inert) and value.name in _FROMBUFFER and value.args:
            content, dtype, shape, order = value.args
            return _array(_bytes(content), dtype.args[0], shape, order)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise DamagedFile("not a pickled array of bytes", f"got: {error}") from error
    got = value.name if isinstance(value, Inert) else type(value).__name__
    raise DamagedFile("not a pickled array of bytes", f"got: {got}")


def _array(content: bytes, dtype: str | bytes, shape: tuple[int, ...], order: Any) -> np.ndarray:
    if dtype not in {"u1", b"u1"} or not all(type(size) is int and size >= 0 for size in shape):
        raise TypeError(f"dtype {dtype!r}, shape {shape!r}")
    if prod(shape) != len(content):
        raise ValueError(f"{len(content)} bytes for shape {shape!r}")
    return np.frombuffer(content, np.uint8).reshape(shape, order="F" if order == "F" else "C")


def _bytes(content: Any) -> bytes:
    # Python 3 writes bytes in protocols 0 to 2 as text to be encoded.
    if isinstance(content, Inert) and content.name == "_codecs.encode" and content.args:
        content = content.args[0].encode("latin-1")
    if not isinstance(content, bytes):
        raise TypeError(f"{type(content).__name__} as content")
    return content
