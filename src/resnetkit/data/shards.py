"""Photos in tar files with an index: read by place in constant time, from a disk or, through fsspec, an object store.

`packs.py` opens whole data sets of them, `packing.py` makes packs, `webdataset.py` indexes tars that others made.
"""

from __future__ import annotations

import io
import mmap
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal, Self

import fsspec
import numpy as np
from numpy.typing import NDArray

from resnetkit.data.decode import Encoded
from resnetkit.data.photos import PhotoSplit
from resnetkit.data.resize import Pixels
from resnetkit.errors import BadImage, DamagedFile

SHARD, INDEX = ".tar", ".npz"
BLOCK_BYTES = 4_000_000  # of neighbouring photos, read at once from a store
KEPT_BLOCKS = 64  # in memory, of a store
FETCHERS = 4  # threads

Content = Literal["original", "jpeg", "raw"]


# --- bytes ---


class Store:
    """The shards of one folder or address: parts of their bytes, whoever asks and in whatever thread."""

    def __init__(self, location: str) -> None:
        self.location = location.rstrip("/")
        self.is_local = is_local(location)
        self._lock = threading.Lock()
        self._maps: dict[str, mmap.mmap] = {}
        self._blocks: OrderedDict[tuple[str, int, int], Future[bytes]] = OrderedDict()
        self._fetchers = ThreadPoolExecutor(FETCHERS, thread_name_prefix="store")

    def read(self, name: str, start: int, end: int, block: tuple[int, int]) -> memoryview:
        """Return bytes of a file; of a store the whole `block` about them is fetched, once for all who ask."""
        if self.is_local:
            return memoryview(self.mapped(name))[start:end]
        whole = self.fetched(name, *block)
        return memoryview(whole)[start - block[0] : end - block[0]]

    def mapped(self, name: str) -> mmap.mmap:
        """Return a local file as it lies in memory."""
        with self._lock:
            if name not in self._maps:
                with (Path(self.location) / name).open("rb") as file:
                    self._maps[name] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            return self._maps[name]

    def fetched(self, name: str, start: int, end: int) -> bytes:
        """Return a block of a file in a store; who asks for one that is on its way waits for it."""
        key = name, start, end
        with self._lock:
            if key not in self._blocks:
                self._blocks[key] = self._fetchers.submit(self.fetch, *key)
                while len(self._blocks) > KEPT_BLOCKS:
                    self._blocks.popitem(last=False)
            self._blocks.move_to_end(key)
            waiting = self._blocks[key]
        try:
            return waiting.result()
        finally:
            if waiting.done() and waiting.exception():
                with self._lock:
                    self._blocks.pop(key, None)  # the next one tries again

    def fetch(self, name: str, start: int, end: int) -> bytes:
        """Fetch a part of a file."""
        filesystem, root = fsspec.core.url_to_fs(self.location)
        content: bytes = filesystem.cat_file(f"{root}/{name}", start=start, end=end)
        return content

    def whole(self, name: str) -> bytes:
        """Return a small file."""
        filesystem, root = fsspec.core.url_to_fs(self.location)
        content: bytes = filesystem.cat_file(f"{root}/{name}")
        return content

    def names(self) -> list[str]:
        """Return the names of the files in it."""
        filesystem, root = fsspec.core.url_to_fs(self.location)
        return sorted(PurePosixPath(path).name for path in filesystem.ls(root, detail=False))

    def opened(self, name: str) -> BinaryIO:
        """Open a file to read it from its beginning to its end."""
        filesystem, root = fsspec.core.url_to_fs(self.location)
        file: BinaryIO = filesystem.open(f"{root}/{name}", "rb")
        return file


def is_local(location: str) -> bool:
    """Say whether a location is a path, and no address of fsspec's."""
    return "://" not in location


# --- the index ---


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """Where photos lie: a row each, in the order of the shards."""

    names: tuple[str, ...]  # of the shards
    shards: NDArray[np.int64]  # [N], places in names
    offsets: NDArray[np.int64]  # [N], of the photo's first byte
    sizes: NDArray[np.int64]  # [N], bytes
    labels: NDArray[np.int64]  # [N]
    paths: NDArray[np.bytes_]  # [N], what the photos were called
    sides: NDArray[np.int64]  # [N, 2], width and height of photos that are stored as pixels, else 0

    def __len__(self) -> int:
        """Count the photos."""
        return len(self.labels)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the columns that a file of it has; it is of one shard."""
        return {name: getattr(self, name) for name in COLUMNS}


COLUMNS = ("offsets", "sizes", "labels", "paths", "sides")


def joined_index(names: Sequence[str], parts: Sequence[Mapping[str, NDArray[Any]]]) -> ShardIndex:
    """Put together the indexes of shards."""
    counts = [len(part["labels"]) for part in parts]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in COLUMNS}
    return ShardIndex(tuple(names), np.repeat(np.arange(len(parts)), counts), **columns)


Row = tuple[bytes, int, int, int, tuple[int, int]]  # path, offset, bytes, label, sides


def one_shard(name: str, rows: Sequence[Row]) -> ShardIndex:
    """Return the index of one shard, of its rows."""
    paths, offsets, sizes, labels, sides = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    counts = np.zeros(len(rows), np.int64)
    return ShardIndex(
        names=(name,),
        shards=counts,
        offsets=np.array(offsets, np.int64),
        sizes=np.array(sizes, np.int64),
        labels=np.array(labels, np.int64),
        paths=np.array(paths, np.bytes_),
        sides=np.array(sides, np.int64).reshape(-1, 2),
    )


def index_bytes(index: ShardIndex) -> bytes:
    """Write the index of one shard."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **index.arrays())
    return file.getvalue()


def read_index(content: bytes, name: str) -> dict[str, NDArray[Any]]:
    """Read the index of one shard; DamagedFile where it is none."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {column: arrays[column] for column in COLUMNS}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DamagedFile(f"{name} is not the index of a shard", f"got: {error}") from error


def blocks_of(index: ShardIndex) -> NDArray[np.int64]:
    """Return the number of the block that each photo is read with [N]: neighbours in one shard, up to 4 MB."""
    ends = index.offsets + index.sizes
    numbers = np.zeros(len(index), np.int64)
    block, start, shard = -1, 0, -1
    for place, (own_shard, offset, end) in enumerate(
        zip(index.shards.tolist(), index.offsets.tolist(), ends.tolist(), strict=True)
    ):
        if own_shard != shard or end - start > BLOCK_BYTES:
            block, start, shard = block + 1, offset, own_shard
        numbers[place] = block
    return numbers


# --- a split ---


@dataclass(frozen=True, eq=False)
class PackedSplit(PhotoSplit):
    """The photos of one split in shards."""

    store: Store
    index: ShardIndex
    block_of: NDArray[np.int64]  # [photos of the index]
    bounds: NDArray[np.int64]  # [blocks, 2], first byte and end in its shard
    places: NDArray[np.int64]  # [N], rows of the index

    @classmethod
    def of(cls, store: Store, index: ShardIndex) -> Self:
        """Return the split that an index is of."""
        numbers = blocks_of(index)
        firsts = np.flatnonzero(np.diff(numbers, prepend=-1))
        lasts = np.append(firsts[1:], len(index))[: len(firsts)] - 1
        bounds = np.stack((index.offsets[firsts], (index.offsets + index.sizes)[lasts]), 1)
        return cls(
            Path(store.location), index.paths, index.labels, store, index, numbers, bounds, np.arange(len(index))
        )

    def part(self, indices: NDArray[np.int64]) -> PackedSplit:
        """Return the split of these photos [n], in this order."""
        return replace(self, paths=self.paths[indices], labels=self.labels[indices], places=self.places[indices])

    def name(self, index: int) -> str:
        """Return what a photo is called in messages."""
        shard = self.index.names[self.index.shards[self.places[index]]]
        return f"{self.store.location}/{shard}: {self.path(index)}"

    def data(self, index: int) -> Encoded:
        """Return the bytes of one photo; BadImage where they cannot be read."""
        place = self.places[index]
        start, size = int(self.index.offsets[place]), int(self.index.sizes[place])
        first, end = self.bounds[self.block_of[place]].tolist()
        try:
            found = self.store.read(self.index.names[self.index.shards[place]], start, start + size, (first, end))
        except (OSError, ValueError) as error:
            raise BadImage(f"{self.name(index)}: {error}") from error
        if len(found) != size:
            raise BadImage(f"{self.name(index)}: the shard ends before the photo does")
        return found

    def stored_size(self, index: int) -> tuple[int, int] | None:
        """Return width and height of a photo that is stored as pixels."""
        width, height = self.index.sides[self.places[index]].tolist()
        return (width, height) if width else None

    def opened(self, index: int) -> BinaryIO:
        """Open a photo."""
        return io.BytesIO(self.data(index))

    def read(self, index: int) -> Pixels:
        """Return one photo as RGB uint8 [H, W, 3]; BadImage names one that cannot be read."""
        size = self.stored_size(index)
        if size is None:
            return super().read(index)
        return np.frombuffer(self.data(index), np.uint8).reshape(size[1], size[0], 3)

    def blocks(self) -> NDArray[np.int64] | None:
        """Return where stretches begin that are best read one after the other [M]; None where photos were mixed."""
        if len(self.places) and (np.diff(self.places) > 0).all():
            return np.flatnonzero(np.diff(self.block_of[self.places], prepend=-1))
        return None
