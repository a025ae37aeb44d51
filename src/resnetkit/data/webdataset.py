"""Tars of WebDataset as a data set: an index is made when one is first opened, and kept in `home()`."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import fsspec
from numpy.typing import NDArray

from resnetkit.data.lists import classes_in
from resnetkit.data.photos import ENDINGS, PhotoDataset
from resnetkit.data.shards import INDEX, PackedSplit, Row, Store, index_bytes, joined_index, one_shard, read_index
from resnetkit.errors import BadRequest, DamagedFile
from resnetkit.home import atomic_write, home

SPLITS = ("train", "val", "test")


def listed_classes(store: Store, names: Sequence[str]) -> tuple[str, ...] | None:
    """Return the classes that a file beside the tars lists."""
    if "classes.txt" not in names:
        return None
    return classes_in(store.whole("classes.txt").decode("utf-8-sig", "replace"), f"{store.location}/classes.txt")


def read_webdataset(store: Store, names: Sequence[str], classes: tuple[str, ...] | None) -> PhotoDataset:
    """Return the data set of tars whose names begin with that of their split; others are for training."""
    by_split: dict[str, list[str]] = {}
    for name in names:
        by_split.setdefault(next((split for split in SPLITS if name.startswith(split)), "train"), []).append(name)
    indexes = {split: joined_index(shards, [tar_index(store, name) for name in shards])
               for split, shards in by_split.items()}  # fmt: skip
    most = max(int(index.labels.max(initial=-1)) for index in indexes.values())
    if classes is not None and most >= len(classes):
        raise BadRequest(f"{store.location}: label {most} for the {len(classes):,} classes of classes.txt")
    digest = hashlib.sha256()
    for split in SPLITS:
        if split in indexes:
            index = indexes[split]
            rows = zip(index.paths.tolist(), index.sizes.tolist(), index.labels.tolist(), strict=True)
            digest.update(b"".join(b"%s/%s\0%d\0%d\n" % (split.encode(), *row) for row in rows))
    splits = {split: PackedSplit.of(store, index) for split, index in indexes.items()}
    test = splits.get("test") or splits.get("val")
    if "train" not in splits or test is None:
        raise BadRequest(f"{store.location}: expected tars train* and val* or test*", f"got {', '.join(by_split)}")
    return PhotoDataset(
        name=PurePosixPath(store.location).name,
        root=Path(store.location),
        train=splits["train"],
        val=splits["val"] if "val" in splits and "test" in splits else None,
        test=test,
        class_names=classes or tuple(f"class {number}" for number in range(most + 1)),
        sha256=digest.hexdigest(),
        layout="tars of WebDataset",
    )


def tar_index(store: Store, name: str) -> dict[str, NDArray[Any]]:
    """Return the index of one tar; what was found out before is kept by name, size and time."""
    filesystem, root = fsspec.core.url_to_fs(store.location)
    about = filesystem.info(f"{root}/{name}")
    stamp = [
        store.location,
        name,
        about["size"],
        str(about.get("mtime") or about.get("ETag") or about.get("LastModified")),
    ]
    file = home() / "indexes" / f"{hashlib.sha256(json.dumps(stamp).encode()).hexdigest()[:24]}{INDEX}"
    if file.is_file():
        return read_index(file.read_bytes(), str(file))
    rows = list(tar_rows(store, name))
    found = one_shard(name, rows)
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as opened:
        opened.write(index_bytes(found))
    return found.arrays()


def tar_rows(store: Store, name: str) -> Iterator[Row]:
    """Yield a row for each photo of a tar: members of one key, that is all before the first dot, belong together."""
    key, photo, label = "", None, None
    with store.opened(name) as raw, opened_tar(raw, f"{store.location}/{name}") as tar:
        for member in tar:
            if not member.isfile():
                continue
            path = PurePosixPath(member.name)
            stem, _, ending = path.name.partition(".")
            own = str(path.parent / stem)
            if own != key:
                if photo is not None:
                    yield labelled_row(photo, label, store, name)
                key, photo, label = own, None, None
            if f".{ending.lower()}" in ENDINGS:
                photo = member.name.encode("utf-8", "surrogateescape"), member.offset_data, member.size
            elif ending in ("cls", "json"):
                opened = tar.extractfile(member)
                label = label_in(opened.read() if opened else b"", ending)
        if photo is not None:
            yield labelled_row(photo, label, store, name)


def opened_tar(raw: BinaryIO, name: str) -> tarfile.TarFile:
    """Open a tar; DamagedFile where it is none."""
    try:
        return tarfile.open(fileobj=raw, mode="r:")
    except tarfile.TarError as error:
        raise DamagedFile(f"{name} is not an uncompressed tar", f"got: {error}") from error


def labelled_row(photo: tuple[bytes, int, int], label: int | None, store: Store, name: str) -> Row:
    """Return a photo's row; BadRequest where it has no label."""
    if label is None:
        shown = photo[0].decode("utf-8", "replace")
        raise BadRequest(f"{store.location}/{name}: {shown} has no label", "expected a file .cls with a number beside "
                         "it, or .json with cls, label or class")  # fmt: skip
    return (*photo, label, (0, 0))


def label_in(content: bytes, ending: str) -> int | None:
    """Read a label's number; None where there is none."""
    try:
        if ending == "cls":
            return int(content.decode().strip())
        said = json.loads(content)
        return next((int(said[key]) for key in ("cls", "label", "class") if key in said), None)
    except (ValueError, TypeError):
        return None
