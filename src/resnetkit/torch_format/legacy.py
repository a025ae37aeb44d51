"""The older container of torch's files: pickles one after another, then the raw storages.

In order: a magic number, the protocol version, facts of the machine, the object with storages as persistent
ids, the list of storage keys, and for each key the number of elements (8 bytes) and the elements.  All numbers
are little-endian.  There is no checksum.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from typing import IO, Any

from torch import Tensor

from resnetkit.errors import DamagedFile
from resnetkit.safe_pickle import PERSISTENT_ID, read_pickle, stand_ins
from resnetkit.torch_format.tensors import StorageClaim, brief, read_bytes, read_claim

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
NO_NAMES: frozenset[str] = frozenset()


@dataclass(frozen=True)
class LegacyParts:
    """What an older file holds."""

    value: Any  # of the object's pickle
    storages: dict[str, Tensor]  # uint8 [bytes] by key


def is_legacy(head: bytes) -> bool:
    """Tell from its first bytes whether a file begins with the magic number's pickle."""
    return MAGIC.to_bytes(10, "little") in head[:32] or str(MAGIC).encode() in head[:32]


def read_legacy(file: IO[bytes], size: int, allowed: frozenset[str]) -> LegacyParts:
    """Read an older file of `size` bytes; the object may name only what is `allowed`, its other parts nothing."""
    with mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:  # a map never reads past its end, whatever is asked
        magic, protocol, _ = (read_pickle(mapped, NO_NAMES) for _ in range(3))
        if (magic, protocol) != (MAGIC, PROTOCOL):
            raise DamagedFile(f"an unknown version of torch's older format: {brief(protocol)}")
        value = read_pickle(mapped, allowed, old_strings_are_text=True)
        keys = read_pickle(mapped, NO_NAMES, old_strings_are_text=True)
        file.seek(mapped.tell())
    return LegacyParts(value, _read_storages(file, size, _claims(value), keys))


def _claims(value: Any) -> dict[str, list[StorageClaim]]:
    """Return what the object's pickle says of each storage, by key."""
    claims: dict[str, list[StorageClaim]] = {}
    for each in stand_ins(value):
        if each.name == PERSISTENT_ID and each.args:
            claim = read_claim(each.args[0])
            claims.setdefault(claim.key, []).append(claim)
    return claims


def _read_storages(file: IO[bytes], size: int, claims: dict[str, list[StorageClaim]], keys: Any) -> dict[str, Tensor]:
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or len(set(keys)) < len(keys):
        raise DamagedFile("the list of storages is damaged")
    if unknown := [key for key in keys if key not in claims]:
        raise DamagedFile(f"no tensor uses the storage {unknown[0][:100]!a}")
    return {key: _read_storage(file, size, claims[key]) for key in keys}


def _read_storage(file: IO[bytes], size: int, claims: list[StorageClaim]) -> Tensor:
    key, header = claims[0].key, file.read(8)
    if len(header) < 8:
        raise DamagedFile(f"the file is cut short before storage {key[:100]!a}")
    (numel,) = struct.unpack("<q", header)
    if all(claim.numel != numel for claim in claims):
        claimed = f"storage {key[:100]!a} is claimed to have {claims[0].numel} elements"
        raise DamagedFile(claimed, f"the file says that it has {numel}")
    return read_bytes(file, claims[0].size, size - file.tell())
