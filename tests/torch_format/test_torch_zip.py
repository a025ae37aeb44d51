"""The zip container: bounded and checked before it is used."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from resnetkit.errors import WeightsError
from resnetkit.torch_format.read import read_torch_file
from torch_files import (
    FOUR,
    read,
    refused,
    same,
    small,
    storage,
    tensor,
    zip_of,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "w.pth"


def test_a_flipped_bit_in_a_zip_is_refused_or_changes_nothing(path: Path) -> None:
    data, wanted, refusals = small(True), {"w": torch.arange(3.0), "n": torch.tensor(7), "epoch": 3}, 0
    for at in range(0, len(data), 2):
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 7
        path.write_bytes(flipped)
        try:
            assert same(read_torch_file(path).content, wanted)
        except WeightsError as error:
            refusals += 1
            assert "Error:" not in error.details[0]
    assert refusals > len(data) // 10


def test_a_zip_bomb_is_refused_before_it_is_unpacked(path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", b"\x80\x02" + tensor(sizes=(2**22,), source=storage(2**22)) + b".")
        archive.writestr("w/data/0", bytes(2**24))
    assert len(file.getvalue()) < 2**15
    refused(file.getvalue(), path, "is compressed", "would become")


def test_entries_that_lie_over_each_other(path: Path) -> None:
    data = bytearray(zip_of(tensor(), {"0": FOUR, "1": bytes(4000), "2": bytes(4000)}))
    first, second = (data.index(b"w/data/%d" % key, data.index(b"PK\1\2")) for key in (1, 2))
    data[second - 4 : second] = data[first - 4 : first]  # the offset stands before the name
    refused(bytes(data), path, "is called 'w/data/1' where it lies")
    for name_at in (first, second):
        data[name_at - 26 : name_at - 18] = struct.pack("<II", 9000, 9000)  # both sizes
    refused(bytes(data), path, "claims 18", "bytes of content")


def test_entries_that_torch_never_writes(path: Path) -> None:
    data = zip_of(tensor())
    assert read(data, path).content.tolist() == [1.0, 2.0, 3.0, 4.0]
    for entry in ("x/readme", "/w/x", "w/../x", "w/a\\b", "readme"):
        file = io.BytesIO(data)
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(entry, b"x")
        refused(file.getvalue(), path, "expected all of them under 'w/'")
    file = io.BytesIO(data)
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("w/data/0", FOUR)
    refused(file.getvalue(), path, "the entry 'w/data/0' twice")
    encrypted = bytearray(data)
    for at in (data.index(b"PK\1\2") + 8, 6):
        encrypted[at] |= 1
    refused(bytes(encrypted), path, "is encrypted")


def test_checksums(path: Path) -> None:
    data = bytearray(zip_of(tensor()))
    data[data.index(FOUR)] ^= 1
    refused(bytes(data), path, "'w/data/0' has another CRC-32")
    torch.serialization.set_crc32_options(compute_crc32=False)
    try:
        unchecked = small(True)
    finally:
        torch.serialization.set_crc32_options(compute_crc32=True)
    assert read(unchecked, path).content["n"] == 7


def test_the_top_folder_and_the_byte_order(path: Path) -> None:
    assert read(zip_of(tensor(), top="any name é"), path).content.tolist() == [1.0, 2.0, 3.0, 4.0]
    swapped = {"0": np.arange(1, 5, dtype=">f4").tobytes()}
    twice = b"(" + tensor() + tensor(1, (2,)) + b"t"
    one, two = read(zip_of(twice, swapped, more={"byteorder": b"big"}), path).content
    assert one.tolist() == [1.0, 2.0, 3.0, 4.0] and two.tolist() == [2.0, 3.0]
    refused(zip_of(tensor(), more={"byteorder": b"middle"}), path, "unknown byte order 'middle'")
    bare = storage(16, "torch.storage.UntypedStorage")
    refused(zip_of(bare, swapped, more={"byteorder": b"big"}), path, "no dtype of its own")
    mixed = b"(" + tensor() + tensor(source=storage(4, "torch.IntStorage")) + b"t"
    refused(zip_of(mixed, swapped, more={"byteorder": b"big"}), path, "no dtype of its own")


def test_zips_of_other_kinds(path: Path) -> None:
    scripted = zip_of(b"N", more={"constants.pkl": b"\x80\x02)."})
    refused(scripted, path, "TorchScript", "next: save model.state_dict()")
    refused(zip_of(b"N", more={"code/__torch__.py": b"pass"}), path, "TorchScript")
    refused(zip_of(b"N", top="a/b"), path, "0 entries FOLDER/data.pkl")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("word/document.xml", "x")
    refused(file.getvalue(), path, "0 entries FOLDER/data.pkl")
    refused(b"PK\x05\x06" + bytes(18), path, "an empty zip archive")


@pytest.mark.parametrize("offset", [2**32 - 2, 10**6, 1])
def test_an_entry_that_is_not_where_the_archive_says(offset: int, path: Path) -> None:
    data = bytearray(zip_of(tensor()))
    at = data.index(b"PK\1\2") + 42
    data[at : at + 4] = struct.pack("<I", offset)
    refused(bytes(data), path, "is not where the archive says")


def test_a_directory_that_claims_to_begin_later(path: Path) -> None:
    data = bytearray(zip_of(tensor()))
    at = data.index(b"PK\5\6") + 16
    data[at : at + 4] = struct.pack("<I", 10**6)  # every offset becomes negative
    refused(bytes(data), path)
