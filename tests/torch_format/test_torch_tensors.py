"""No tensor of a torch file reaches outside its storage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resnetkit.errors import DamagedFile
from resnetkit.torch_format.tensors import strided
from torch_files import (
    CONTAINERS,
    legacy_of,
    plain,
    refused,
    saved,
    storage,
    tensor,
    zip_of,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "w.pth"


SHAPES: dict[str, tuple[Any, Any, Any, str]] = {
    "more than the storage": (0, (5,), (1,), "claims 20 bytes"),
    "a terabyte": (0, (2**38,), (1,), "claims 1099511627776 bytes"),
    "overflow": (0, (2**62, 2**62), (1, 1), "claims"),
    "expanded": (0, (1000,), (0,), "claims 4000 bytes"),
    "stride": (0, (2,), (4,), "ends at element 5"),
    "large stride": (0, (2,), (2**62,), "ends at element"),
    "offset": (1, (4,), (1,), "ends at element 5"),
    "large offset": (2**62, (1,), (1,), "ends at element"),
    "empty, offset": (5, (0,), (1,), "ends at element 5"),
    "negative size": (0, (-1,), (1,), "no sound shape"),
    "negative stride": (3, (4,), (-1,), "no sound shape"),
    "negative offset": (-1, (4,), (1,), "no sound shape"),
    "huge numbers": (0, (10**400,), (1,), "no sound shape"),
    "numbers too long to print": (0, (10**5000,), (1,), "no sound shape"),
    "a flag": (0, (True,), (1,), "no sound shape"),
    "a fraction": (0, (1.0,), (1,), "no sound shape"),
    "a list": (0, [4], [1], "no sound shape"),
    "lengths differ": (0, (2, 2), (1,), "no sound shape"),
    "dimensions": (0, (1,) * 65, (1,) * 65, "no sound shape"),
    "no offset": (None, (4,), (1,), "no sound shape"),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_a_tensor_outside_its_storage(kind: str, path: Path) -> None:
    offset, sizes, strides, said = SHAPES[kind]
    refused(zip_of(tensor(offset, sizes, strides)), path, said)
    refused(legacy_of(tensor(offset, sizes, strides)), path, said)


@settings(max_examples=300)
@given(st.integers(0, 9), st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=3))
def test_exactly_what_lies_inside_is_made(offset: int, dims: list[tuple[int, int]]) -> None:
    sizes, strides = tuple(size for size, _ in dims), tuple(stride for _, stride in dims)
    base = torch.arange(12.0)
    reach = [offset + sum(i * s for i, s in zip(at, strides, strict=True)) for at in np.ndindex(*sizes)]
    try:
        made = strided(base[2:], offset, sizes, strides)  # ten elements, not the first of their memory
    except DamagedFile:
        assert len(reach) > 10 or max(reach, default=0) > 9
    else:
        assert len(reach) <= 10 and max(reach, default=0) <= 9
        assert made.flatten().tolist() == [2.0 + at for at in reach]


STORAGES = {
    "larger than its entry": (storage(5), "claimed to have 20 bytes"),
    "smaller than its entry": (storage(3), "claimed to have 12 bytes"),
    "a terabyte": (storage(2**38), "claimed to have"),
    "another dtype": (storage(4, "torch.DoubleStorage"), "claimed to have 32 bytes"),
    "not there": (storage(4, key="../0"), "not in the file"),
    "negative": (storage(-1), "no sound kind, key or length"),
    "huge": (storage(2**70), "no sound kind, key or length"),
    "too long to print": (storage(10**5000), "no sound kind, key or length"),
    "no number": (storage([[1]] * 9), "no sound kind, key or length a list"),
    "called kind": (storage().replace(b"FloatStorage\n", b"FloatStorage\n)R"), "no sound kind"),
    "no kind": (storage(4, "collections.OrderedDict"), "stored as collections.OrderedDict"),
    "complex": (storage(4, "torch.ComplexFloatStorage"), "stored as torch.ComplexFloatStorage"),
    "quantised": (storage(4, "torch.QInt8Storage"), "stored as torch.QInt8Storage"),
    "no tuple": (plain("0") + b"Q", "unknown way"),
    "a module": (b"(" + plain("module") + b"NNNNtQ", "unknown way"),
}


@pytest.mark.parametrize("kind", STORAGES)
def test_a_storage_that_claims_too_much(kind: str, path: Path) -> None:
    reference, said = STORAGES[kind]
    refused(zip_of(tensor(source=reference)), path, said)
    refused(legacy_of(tensor(source=reference)), path)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float8_e5m2], ids=str)
@pytest.mark.parametrize("zipped", CONTAINERS)
def test_dtypes_that_no_resnet_has(dtype: torch.dtype, zipped: bool, path: Path) -> None:
    refused(saved({"w": torch.zeros(2).to(dtype)}, zipped), path, "expected one of")


def test_sparse_tensors_of_torch_itself(path: Path) -> None:
    refused(saved(torch.eye(2).to_sparse()), path, "a sparse tensor")
