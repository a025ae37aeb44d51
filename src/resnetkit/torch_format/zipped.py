"""The zip container of torch's files: every entry is bounded and checked before its bytes are used.

torch stores its entries as they are, under one folder of any name: `data.pkl`, `byteorder`, `data/KEY`.
So a compressed entry is refused, which leaves no room for a zip bomb.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import IO

from torch import Tensor

from resnetkit.errors import DamagedFile
from resnetkit.torch_format.tensors import read_bytes

LOCAL_HEADER = struct.Struct("<4s5H3I2H")  # signature, ..., lengths of name and extra field
ENCRYPTED, UTF_8 = 0x1, 0x800  # bits of an entry's flags
PICKLE = "data.pkl"


@dataclass(frozen=True)
class ZipParts:
    """What a torch zip holds."""

    pickle: bytes
    storages: dict[str, Tensor]  # uint8 [bytes] by key
    byteorder: str  # "little" or "big"


def read_zip(file: IO[bytes], size: int) -> ZipParts:
    """Read all entries of a zip file of `size` bytes that torch wrote; raises DamagedFile for any other.

    Each is compared with its CRC-32, but where all of these are 0: so torch writes them if told to save time.
    """
    entries = _entries(file, size)
    has_checksums = any(entry.CRC for entry in entries.values())
    parts = {name: _read_entry(file, entry, size, has_checksums) for name, entry in entries.items()}
    byteorder = bytes(parts["byteorder"].numpy()).decode("ascii", "replace") if "byteorder" in parts else "little"
    if byteorder not in {"little", "big"}:
        raise DamagedFile(f"unknown byte order {byteorder[:20]!r}")
    storages = {name.removeprefix("data/"): data for name, data in parts.items() if name.startswith("data/")}
    return ZipParts(bytes(parts[PICKLE].numpy()), storages, byteorder)


def _entries(file: IO[bytes], size: int) -> dict[str, zipfile.ZipInfo]:
    """Return the checked entries by their name inside the top folder."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ArithmeticError, ValueError, LookupError, struct.error) as error:
        raise DamagedFile("the zip archive is damaged or cut short", f"got: {error}") from error
    top = _top_folder([entry.orig_filename for entry in entries])
    for entry in entries:
        _check_entry(entry, top)
    named = {entry.orig_filename.removeprefix(top): entry for entry in entries}
    if len(named) < len(entries):
        twice, _ = Counter(entry.orig_filename for entry in entries).most_common(1)[0]
        raise DamagedFile(f"the zip archive has the entry {twice[:100]!a} twice")
    total = sum(entry.file_size for entry in entries)
    if total > size:
        raise DamagedFile(f"the zip archive claims {total} bytes of content", f"the file has {size} bytes")
    return named


def _top_folder(names: list[str]) -> str:
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise DamagedFile(
            "a TorchScript archive: it holds a program", "next: save model.state_dict() of the model it was made of"
        )
    tops = [name.removesuffix(PICKLE) for name in names if name.endswith(f"/{PICKLE}") and name.count("/") == 1]
    if len(tops) != 1:
        raise DamagedFile(f"a zip archive with {len(tops)} entries FOLDER/{PICKLE}", "expected one, as torch.save does")
    return tops[0]


def _check_entry(entry: zipfile.ZipInfo, top: str) -> None:
    name = entry.orig_filename
    if not name.startswith(top) or ".." in name.split("/") or name.startswith("/") or set(name) & {"\\", "\0"}:
        raise DamagedFile(f"the zip archive has an entry {name[:100]!a}", f"expected all of them under {top[:100]!a}")
    if entry.flag_bits & ENCRYPTED:
        raise DamagedFile(f"the zip entry {name[:100]!a} is encrypted")
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        sizes = f"{entry.compress_size} bytes would become {entry.file_size}, by method {entry.compress_type}"
        raise DamagedFile(f"the zip entry {name[:100]!a} is compressed: {sizes}", "torch stores entries as they are")


def _read_entry(file: IO[bytes], entry: zipfile.ZipInfo, size: int, has_checksums: bool) -> Tensor:
    """Read an entry's bytes from where its own header says, uint8 [bytes]."""
    header = b""
    if 0 <= entry.header_offset < size:
        file.seek(entry.header_offset)
        header = file.read(LOCAL_HEADER.size)
    if len(header) < LOCAL_HEADER.size or not header.startswith(b"PK\3\4"):
        raise DamagedFile(f"the zip entry {entry.orig_filename[:100]!a} is not where the archive says")
    *_, name_length, extra_length = LOCAL_HEADER.unpack(header)
    name = file.read(name_length).decode("utf-8" if entry.flag_bits & UTF_8 else "cp437", "replace")
    if name != entry.orig_filename:
        raise DamagedFile(f"the zip entry {entry.orig_filename[:100]!a} is called {name[:100]!a} where it lies")
    start = entry.header_offset + LOCAL_HEADER.size + name_length + extra_length
    file.seek(start)
    data = read_bytes(file, entry.file_size, size - start)
    if has_checksums and zlib.crc32(data.numpy().data) != entry.CRC:
        raise DamagedFile(f"the zip entry {name[:100]!a} has another CRC-32 than the archive says: it is damaged")
    return data
