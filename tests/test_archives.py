from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import write_tar
from resnetkit.data.archives import read_folder, read_tar
from resnetkit.errors import DamagedFile

LIMITS = {"one": 10, "two": 10}


def read(path: Path, on_read: Callable[[int], None] = lambda count: None) -> dict[str, bytes]:
    return dict(read_tar(path, LIMITS, on_read))


@pytest.mark.parametrize("name", ["it.tar", "it.tar.gz", "it.tgz"])
def test_only_the_named_members_are_read(tmp_path: Path, name: str) -> None:
    path = write_tar(tmp_path / name, {"folder/one": b"1", "readme": b"long" * 99, "two": b"22", "one.txt": b""})
    read_bytes: list[int] = []
    assert read(path, read_bytes.append) == {"one": b"1", "two": b"22"}
    assert sum(read_bytes) == path.stat().st_size


def test_nothing_is_written_whatever_the_names(tmp_path: Path) -> None:
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    path = write_tar(inside / "it.tar", {"../../one": b"1", f"{tmp_path}/two": b"2"})
    assert read(path) == {"one": b"1", "two": b"2"}
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [path]


def test_links_are_passed_over(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "it.tar", "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            member = tarfile.TarInfo("one")
            member.type, member.linkname = kind, "/etc/hostname"
            archive.addfile(member)
    assert read(tmp_path / "it.tar") == {}


def test_sizes_and_doubles_are_checked(tmp_path: Path) -> None:
    with pytest.raises(DamagedFile, match=r"one in .*it\.tar is too large\n  got: 11 bytes"):
        read(write_tar(tmp_path / "it.tar", {"one": b"1" * 11}))
    with pytest.raises(DamagedFile, match="holds one twice"):
        read(write_tar(tmp_path / "it.tar", {"a/one": b"1", "b/one": b"1"}))


def test_a_small_archive_cannot_unpack_for_ever(tmp_path: Path) -> None:
    member = tarfile.TarInfo("zeros")
    member.size = 2**27
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="w", compresslevel=1) as file:
        file.write(member.tobuf())
        for _ in range(member.size >> 20):
            file.write(bytes(2**20))
    (tmp_path / "it.tgz").write_bytes(packed.getvalue())
    assert len(packed.getvalue()) < 2**20
    with pytest.raises(DamagedFile, match="unpacks to more"):
        read(tmp_path / "it.tgz")


@pytest.mark.parametrize("name", ["it.tar", "it.tgz"])
def test_cut_archives_are_damaged_or_short(tmp_path: Path, name: str) -> None:
    path = write_tar(tmp_path / name, {"one": b"1", "two": b"2"})
    content = path.read_bytes()
    refused = 0
    for length in range(0, len(content), max(1, len(content) // 50)):
        path.write_bytes(content[:length])
        try:
            read(path)
        except DamagedFile as error:
            refused += "not a sound" in error.what
    assert refused > 2


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=5))
def test_changed_bytes_never_raise_anything_else(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    for name in ("it.tar", "it.tgz"):
        path = write_tar(tmp_path_factory.getbasetemp() / name, {"one": b"1", "two": b"2"})
        content = bytearray(path.read_bytes())
        for position, byte in changes:
            content[position % min(1100, len(content))] = byte  # headers, not the padding at the end
        path.write_bytes(content)
        try:
            read(path)
        except DamagedFile as error:
            assert str(error)


def test_folders(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"1")
    (tmp_path / "three").write_bytes(b"3")
    (tmp_path / "two").mkdir()
    assert dict(read_folder(tmp_path, LIMITS)) == {"one": b"1"}
    (tmp_path / "one").write_bytes(b"1" * 11)
    with pytest.raises(DamagedFile, match="one is too large"):
        dict(read_folder(tmp_path, LIMITS))
