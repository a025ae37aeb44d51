"""The older container, which has no checksums."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resnetkit.errors import WeightsError
from resnetkit.torch_format.legacy import PROTOCOL
from resnetkit.torch_format.read import read_torch_file
from torch_files import (
    FOUR,
    legacy_of,
    plain,
    read,
    refused,
    small,
    storage,
    tensor,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "w.pth"


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8))
def test_changed_bytes_of_an_older_file_raise_nothing_else(path: Path, places: list[tuple[int, int]]) -> None:
    data = bytearray(small(False))
    for at, byte in places:
        data[at % len(data)] = byte
    path.write_bytes(data)
    try:
        read_torch_file(path)
    except WeightsError as error:
        assert error.details[0].startswith("got ")


def test_parts_of_a_storage_in_older_files(path: Path) -> None:
    part = storage(4, more=plain(("view", 1, 2)))
    assert read(legacy_of(tensor(0, (2,), (1,), part)), path).content.tolist() == [2.0, 3.0]
    assert read(legacy_of(tensor(1, (1,), (1,), part)), path).content.tolist() == [3.0]
    refused(legacy_of(tensor(0, (3,), (1,), part)), path, "claims 12 bytes", "has 8 bytes")
    refused(legacy_of(tensor(1, (2,), (1,), part)), path, "ends at element 3")
    for view in (("v", 3, 2), ("v", -1, 2), ("v", 0), 7):
        refused(legacy_of(tensor(0, (1,), (1,), storage(4, more=plain(view)))), path, "part of a storage")


def test_older_files_that_disagree_with_themselves(path: Path) -> None:
    assert read(legacy_of(tensor()), path).content.tolist() == [1.0, 2.0, 3.0, 4.0]
    refused(legacy_of(tensor(), [("0", 5, FOUR + FOUR)]), path, "claimed to have 4 elements", "that it has 5")
    refused(legacy_of(tensor(), [("0", -1, FOUR)]), path, "claimed to have 4 elements")
    refused(legacy_of(tensor(), []), path, "storage '0' is not in the file")
    refused(legacy_of(tensor(), keys=["0", "0"]), path, "list of storages")
    refused(legacy_of(tensor(), keys=["1"]), path, "no tensor uses")
    refused(legacy_of(tensor(), keys=7), path, "list of storages")
    terabyte = legacy_of(tensor(source=storage(2**38)), [("0", 2**38, FOUR)])
    refused(terabyte, path, "cut short", "1099511627776 bytes", "the file 16 more")
    other = small(False).replace(pickle.dumps(PROTOCOL, 2), pickle.dumps(1002, 2))
    refused(other, path, "unknown version", "1002")
    for protocol in (10**5000, [[1]] * 9, None):
        other = small(False).replace(pickle.dumps(PROTOCOL, 2), pickle.dumps(protocol, 2))
        refused(other, path, "unknown version")
