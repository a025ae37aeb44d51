"""Data sets in shards: packs of our own, and tars of WebDataset.

PACK/pack.json          what it holds, with the SHA-256 of every shard
PACK/train-00000.tar    photos as WebDataset has them: 000000012.jpg, 000000012.cls (the label's number)
PACK/train-00000.npz    where each photo lies in the shard
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from resnetkit.data.photos import PhotoDataset
from resnetkit.data.shards import INDEX, SHARD, PackedSplit, ShardIndex, Store, is_local, joined_index, read_index
from resnetkit.data.webdataset import listed_classes, read_webdataset
from resnetkit.errors import BadRequest, DamagedFile

PACK = "pack.json"
VERSION = 1


def is_packed(name: str) -> bool:
    """Say whether a name means shards: an address, a pattern of tars, or a folder with a pack or tars in it."""
    if not is_local(name) or name.endswith(SHARD):
        return True
    folder = Path(name)
    if not folder.is_dir():
        return False
    return (folder / PACK).is_file() or (any(folder.glob(f"*{SHARD}")) and not any(map(Path.is_dir, folder.iterdir())))


def read_packed(name: str) -> PhotoDataset:
    """Return the data set that shards hold; BadRequest or DamagedFile where they hold none."""
    location, _, pattern = name.rpartition("/") if name.endswith(SHARD) else (name, "", "*" + SHARD)
    store = Store(location or ".")
    try:
        names = store.names()
    except (OSError, ValueError, ImportError) as error:
        raise BadRequest(f"{name} cannot be read", f"got: {error}", *missing_package(error)) from error
    if PACK in names:
        return read_pack(store)
    chosen = [each for each in names if PurePosixPath(each).match(pattern)]
    if not chosen:
        raise BadRequest(f"{name}: no {PACK} and no tars", f"got {len(names):,} files in {store.location}")
    return read_webdataset(store, chosen, classes=listed_classes(store, names))


def missing_package(error: BaseException) -> tuple[str, ...]:
    """Say what to install for an address that needs it."""
    return ("next: pip install the package that it names, as s3fs for s3://",) if isinstance(error, ImportError) else ()


def read_pack(store: Store) -> PhotoDataset:
    """Return the data set of a pack."""
    try:
        about = json.loads(store.whole(PACK))
        if about["version"] != VERSION:
            raise BadRequest(f"{store.location} is a pack of another version", f"got {about['version']}")
        indexes = {split: read_indexes(store, shards) for split, shards in about["splits"].items()}
        splits = {split: PackedSplit.of(store, index) for split, index in indexes.items()}
        return PhotoDataset(
            name=about["name"],
            root=Path(store.location),
            train=splits["train"],
            val=splits.get("val"),
            test=splits["test"],
            class_names=tuple(about["class_names"]),
            sha256=about["sha256"],
            layout=f"pack, {about['content']}",
            notes=tuple(about["notes"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFile(f"{store.location}/{PACK} is damaged", f"got: {error!r}") from error


def read_indexes(store: Store, shards: Mapping[str, Any]) -> ShardIndex:
    """Read the indexes of a split's shards, each against its SHA-256; the shards' own are not looked at."""
    names = list(shards)
    parts = []
    for name in names:
        index = store.whole(name.removesuffix(SHARD) + INDEX)
        found = hashlib.sha256(index).hexdigest()
        if found != shards[name]["index_sha256"]:
            raise DamagedFile(f"{store.location}/{name.removesuffix(SHARD) + INDEX} is damaged", f"got sha256 {found}",
                              f"expected sha256 {shards[name]['index_sha256']}")  # fmt: skip
        parts.append(read_index(index, name))
    return joined_index(names, parts)
