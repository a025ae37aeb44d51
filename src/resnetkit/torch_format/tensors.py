"""Tensors of torch's files: what a pickle claims of a storage, and views that are checked before they are made.

A storage is a one-dimensional tensor here.  Facts: torch/_utils.py and torch/serialization.py of torch 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import IO, Any

import torch
from torch import Tensor

from resnetkit.errors import DamagedFile
from resnetkit.safe_pickle import Inert

MAX_DIMENSIONS = 64  # as in torch's own operators
MAX_NUMBER = 2**63 - 1
_STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ShortStorage": torch.int16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "BoolStorage": torch.bool,
}
UNTYPED = frozenset({"torch.UntypedStorage", "torch.storage.UntypedStorage", "torch.storage._UntypedStorage"})
STORAGE_DTYPES = {
    **{f"{module}.{name}": dtype for module in ("torch", "torch.cuda") for name, dtype in _STORAGES.items()},
    **dict.fromkeys(UNTYPED, torch.uint8),
}
# Found only where a tensor names its dtype beside an untyped storage: the three that have no storage of their own.
DTYPES = {str(dtype): dtype for dtype in (*_STORAGES.values(), torch.uint16, torch.uint32, torch.uint64)}


@dataclass(frozen=True)
class StorageClaim:
    """What a pickle says of a storage that lies outside it."""

    key: str
    dtype: torch.dtype
    numel: int
    view: tuple[int, int] | None  # first element and number of elements, in older files only
    untyped: bool

    @property
    def size(self) -> int:
        """Bytes of the whole storage."""
        return self.numel * self.dtype.itemsize


def read_claim(persistent_id: Any) -> StorageClaim:
    """Read a persistent id: ("storage", kind, key, location, number of elements, and in older files a view)."""
    if not (isinstance(persistent_id, tuple) and len(persistent_id) in {5, 6} and persistent_id[0] == "storage"):
        raise DamagedFile("a storage is described in an unknown way")
    kind, key, _, numel = persistent_id[1:5]
    view = persistent_id[5] if len(persistent_id) == 6 else None
    if not (isinstance(kind, Inert) and kind.args is None and isinstance(key, str) and _is_count(numel)):
        raise DamagedFile(f"a storage has no sound kind, key or length {brief(numel)}")
    if kind.name not in STORAGE_DTYPES:
        raise DamagedFile(f"a tensor is stored as {kind.name}", f"expected one of {', '.join(_STORAGES)}")
    part = None if view is None else _read_view(view, numel)
    return StorageClaim(key, STORAGE_DTYPES[kind.name], numel, part, kind.name in UNTYPED)


def _read_view(view: Any, numel: int) -> tuple[int, int]:
    if not (isinstance(view, tuple) and len(view) == 3 and _is_count(view[1]) and _is_count(view[2])):
        raise DamagedFile("a part of a storage is described in an unknown way")
    if view[1] + view[2] > numel:
        raise DamagedFile(f"a part of a storage ends at element {view[1] + view[2]} of {numel}")
    return view[1], view[2]


def typed(data: Tensor, claim: StorageClaim) -> Tensor:
    """Return the storage that a claim means, of the bytes `data`, uint8 [size]."""
    if data.numel() != claim.size:
        got = f"storage {claim.key[:100]!a} is claimed to have {claim.size} bytes"
        raise DamagedFile(got, f"the file has {data.numel()} bytes for it")
    first, numel = claim.view or (0, claim.numel)
    return data.view(claim.dtype)[first : first + numel]


def strided(storage: Tensor, offset: Any, sizes: Any, strides: Any) -> Tensor:
    """Return the tensor of `sizes` that lies in a storage [n] from element `offset` on; no bytes are copied.

    Raises DamagedFile for numbers that would reach outside, and for a tensor with more elements than its
    storage (an expanded one), which would be a small file that takes any amount of memory once it is copied.
    """
    for numbers in (sizes, strides):
        if not (isinstance(numbers, tuple) and len(numbers) <= MAX_DIMENSIONS and all(map(_is_count, numbers))):
            raise DamagedFile("a tensor has no sound shape", f"got {brief(sizes)}, strides {brief(strides)}")
    if len(sizes) != len(strides) or not _is_count(offset):
        raise DamagedFile("a tensor has no sound shape", f"got {brief(sizes)}, strides {brief(strides)}")
    available, numel, itemsize = storage.numel(), prod(sizes), storage.dtype.itemsize
    if numel > available:
        claimed = f"a tensor of shape {brief(sizes)} claims {numel * itemsize} bytes"
        raise DamagedFile(claimed, f"its storage has {available * itemsize} bytes")
    end = offset + (1 + sum((n - 1) * stride for n, stride in zip(sizes, strides, strict=True)) if numel else 0)
    if end > available:
        raise DamagedFile(f"a tensor ends at element {end} of its storage", f"the storage has {available}")
    empty = torch.empty(0, dtype=storage.dtype)  # set_ and not as_strided: the result is no view of another tensor
    return empty.set_(storage.untyped_storage(), storage.storage_offset() + offset, sizes, strides)


def read_bytes(file: IO[bytes], size: int, left: int) -> Tensor:
    """Read uint8 [size] from a file that has `left` more bytes; nothing is allocated before they are compared."""
    if size > left:
        raise DamagedFile("the file is cut short", f"its next part has {size} bytes, the file {left} more")
    try:
        data = torch.empty(size, dtype=torch.uint8)
    except RuntimeError as error:
        raise DamagedFile(f"a part of {size} bytes, for which there is no memory") from error
    if file.readinto(data.numpy()) != size:  # type: ignore[attr-defined]
        raise DamagedFile("the file became shorter while it was read")
    return data


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_NUMBER


def brief(value: Any) -> str:
    """Write a number or a shape for a message; of anything else only the type, for it may be of any size."""
    numbers = value if isinstance(value, tuple) else (value,)
    if all(type(number) in {int, bool, float} and abs(number) <= MAX_NUMBER for number in numbers[:MAX_DIMENSIONS]):
        text = str(value if len(numbers) <= MAX_DIMENSIONS else numbers[:MAX_DIMENSIONS])
        return text if len(text) <= 100 else f"{text[:100]}..."
    return f"a {type(value).__name__}"
