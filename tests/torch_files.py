"""Files of torch.save, also such as torch would never write, put together from pieces of pickles."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from resnetkit.errors import WeightsError
from resnetkit.torch_format.legacy import MAGIC, PROTOCOL
from resnetkit.torch_format.read import TorchFile, read_torch_file

FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
WHOLE = [torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.bool]
NEWER = [torch.uint16, torch.uint32, torch.uint64]  # kept without a typed storage
CONTAINERS = [True, False]  # the zip and the older one


def saved(content: Any, zipped: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def read(data: bytes, path: Path) -> TorchFile:
    path.write_bytes(data)
    return read_torch_file(path)


def refused(data: bytes, path: Path, *said: str) -> WeightsError:
    """Require a refusal in the usual form that says all of `said`."""
    path.write_bytes(data)
    with pytest.raises(WeightsError) as caught:
        read_torch_file(path)
    error = caught.value
    assert error.what == f"{path} cannot be read as weights"
    assert error.details[0].startswith("got ") and error.details[-1].startswith("next: ")
    assert all(line and "\n" not in line and len(line) < 400 for line in error.details)
    for words in said:
        assert words in str(error), str(error)
    return error


def plain(value: Any) -> bytes:
    """Write a value as a piece of a pickle."""
    return pickle.dumps(value, 2)[2:-1]


def name(dotted: str) -> bytes:
    module, _, last = dotted.rpartition(".")
    return b"c%s\n%s\n" % (module.encode(), last.encode())


def call(dotted: str, *args: bytes) -> bytes:
    return name(dotted) + b"(" + b"".join(args) + b"tR"


def storage(numel: Any = 4, kind: str = "torch.FloatStorage", key: str = "0", more: bytes = b"") -> bytes:
    return b"(" + plain("storage") + name(kind) + plain(key) + plain("cpu") + plain(numel) + more + b"tQ"


def tensor(offset: Any = 0, sizes: Any = (4,), strides: Any = (1,), source: bytes = storage()) -> bytes:
    rest = plain(False) + call("collections.OrderedDict")
    return call("torch._utils._rebuild_tensor_v2", source, plain(offset), plain(sizes), plain(strides), rest)


def zip_of(
    value: bytes, storages: dict[str, bytes] | None = None, top: str = "w", more: dict[str, bytes] | None = None
) -> bytes:
    """Write a zip around a piece of a pickle; by default with four floats as storage 0."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{top}/data.pkl", b"\x80\x02" + value + b".")
        for key, data in ({"0": FOUR} if storages is None else storages).items():
            archive.writestr(f"{top}/data/{key}", data)
        for entry, data in (more or {}).items():
            archive.writestr(f"{top}/{entry}", data)
    return file.getvalue()


def legacy_of(value: bytes, storages: list[tuple[str, int, bytes]] | None = None, keys: Any = None) -> bytes:
    """Write an older file; a storage is its key, its number of elements and its bytes."""
    parts = [("0", 4, FOUR)] if storages is None else storages
    head = b"".join(pickle.dumps(each, 2) for each in (MAGIC, PROTOCOL, {"little_endian": True}))
    listed = pickle.dumps([key for key, _, _ in parts] if keys is None else keys, 2)
    raw = b"".join(struct.pack("<q", numel) + data for _, numel, data in parts)
    return head + b"\x80\x02" + value + b"." + listed + raw


FOUR = np.arange(1, 5, dtype="<f4").tobytes()


def small(zipped: bool) -> bytes:
    return saved({"w": torch.arange(3.0), "n": torch.tensor(7), "epoch": 3}, zipped)


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, Tensor):
        assert type(ours) is Tensor and not ours.requires_grad
        equal = ours.dtype == theirs.dtype and ours.shape == theirs.shape and ours.stride() == theirs.stride()
        return equal and torch.equal(bits(ours), bits(theirs.detach()))
    if isinstance(theirs, torch.device | torch.dtype):
        return bool(ours == str(theirs))
    if isinstance(theirs, dict):
        return type(ours) is dict and list(ours) == list(theirs) and all(same(ours[k], theirs[k]) for k in theirs)
    if isinstance(theirs, list | tuple):
        kind = list if isinstance(theirs, list) else tuple
        return type(ours) is kind and len(ours) == len(theirs) and all(map(same, ours, theirs))
    return type(ours) is type(theirs) and repr(ours) == repr(theirs)


def bits(value: Tensor) -> Tensor:
    """Copy to whole numbers, so that a nan equals itself."""
    width = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[value.dtype.itemsize]
    return value.contiguous().view(width)


def tensors_of(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [each for part in inner for each in tensors_of(part)]


def sharing(value: Any) -> list[tuple[int, int]]:
    """Tell which tensors lie in one storage, and how far apart."""
    found = [each for each in tensors_of(value) if each.untyped_storage().nbytes()]
    starts = [each.untyped_storage().data_ptr() for each in found]
    return [(starts.index(start), int(each.storage_offset())) for start, each in zip(starts, found, strict=True)]
