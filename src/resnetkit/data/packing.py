"""Making a pack: the photos of a data set in shards, as they are, saved anew as smaller JPEGs, or as pixels."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from resnetkit.data.decode import plain_jpeg
from resnetkit.data.packs import PACK, VERSION
from resnetkit.data.photo_loader import photo_threads
from resnetkit.data.photos import PhotoDataset, PhotoSplit
from resnetkit.data.resize import Pixels, resize_short
from resnetkit.data.shards import INDEX, SHARD, Content, Row, index_bytes, one_shard
from resnetkit.data.transforms import random_stream
from resnetkit.errors import BadImage, BadRequest
from resnetkit.home import atomic_write, locked, read_json, sync_folder, write_json

PACKING = 7_000_000  # the random stream of the order in shards; those of training have other numbers
TAR_BLOCK = 512  # bytes
AHEAD = 64  # photos that are made ready while others are written
SHOWN_BAD = 20
PART = ".part"  # the ending of a pack that is not whole yet


@dataclass(frozen=True)
class Packing:
    """How photos are stored."""

    content: Content = "original"
    side: int = 256  # pixels of the short side, of jpeg and raw; smaller photos stay as large as they are
    quality: int = 90  # of jpeg
    shard_bytes: int = 128_000_000


@dataclass(frozen=True)
class Packed:
    """What was written."""

    folder: Path
    photos: int
    shards: int
    bytes: int
    again: int  # shards that were there from a packing that was stopped


def pack(
    dataset: PhotoDataset,
    out: Path,
    packing: Packing = Packing(),
    on_photo: Callable[[int], None] = lambda count: None,
) -> Packed:
    """Write a pack; a packing that was stopped goes on with its next shard.

    Training photos are stored in random order, so that neighbours are of different classes; the others in theirs.
    Raises BadRequest for a folder that is there, or with all photos that cannot be read.
    """
    if out.exists():
        raise BadRequest(f"{out} exists already", "next: name another folder, or remove it")
    part = out.with_name(out.name + PART)
    part.mkdir(parents=True, exist_ok=True)

    def refuse() -> None:
        raise BadRequest(f"another process packs into {out}")

    with locked(part / "lock", on_wait=refuse):
        begin(part, dataset, packing)
        splits = {"train": dataset.train, "val": dataset.val, "test": dataset.test}
        about: dict[str, dict[str, Any]] = {}
        again, bad = 0, []
        for name, split in splits.items():
            if split is None:
                continue
            about[name] = {}
            order = random_stream(PACKING).permutation(len(split)) if name == "train" else np.arange(len(split))
            for number, places in enumerate(shares(split, order, packing)):
                shard = f"{name}-{number:05d}{SHARD}"
                known = part / f"{shard}.json"
                if known.is_file():
                    again += 1
                    on_photo(len(places))
                else:
                    bad += write_shard(part, shard, split, places, packing, on_photo)
                if not bad:
                    about[name][shard] = read_json(known)
        if bad:
            more = [f"and {len(bad) - SHOWN_BAD:,} more"] if len(bad) > SHOWN_BAD else []
            next_step = "next: resnetkit doctor lists them; --quarantine FILE leaves them out"
            raise BadRequest(f"{len(bad):,} photos cannot be read", *bad[:SHOWN_BAD], *more, next_step)
        finish(part, dataset, packing, about)
        part.rename(out)
        sync_folder(out.parent)
    every = [shard for shards in about.values() for shard in shards.values()]
    return Packed(
        out, sum(shard["photos"] for shard in every), len(every), sum(shard["bytes"] for shard in every), again
    )


def begin(part: Path, dataset: PhotoDataset, packing: Packing) -> None:
    """Remember what is packed, or refuse to go on with something else."""
    wanted = {"data_sha256": dataset.sha256} | asdict(packing)
    known = part / "packing.json"
    if known.is_file() and read_json(known) != wanted:
        raise BadRequest(f"{part} is of another packing", f"got {read_json(known)}", f"expected {wanted}",
                         "next: remove it, or name another folder")  # fmt: skip
    write_json(known, wanted)


def finish(part: Path, dataset: PhotoDataset, packing: Packing, about: dict[str, dict[str, Any]]) -> None:
    """Write what the pack is, and remove what only its making needed."""
    hashes = [shard["sha256"] for shards in about.values() for shard in shards.values()]
    own = json.dumps([list(dataset.class_names), list(about), hashes])
    write_json(
        part / PACK,
        {
            "version": VERSION,
            "name": dataset.name,
            **asdict(packing),
            "class_names": list(dataset.class_names),
            "sha256": hashlib.sha256(own.encode()).hexdigest(),
            "source_sha256": dataset.sha256,
            "notes": list(dataset.notes),
            "splits": about,
        },
    )
    for file in [*part.glob(f"*{SHARD}.json"), part / "packing.json", part / "lock"]:
        file.unlink()


def shares(split: PhotoSplit, order: NDArray[np.int64], packing: Packing) -> Iterator[NDArray[np.int64]]:
    """Yield the photos of each shard: as many as fill it, by the sizes of their files or pixels."""
    sizes = np.array([estimated(split, index, packing) for index in order.tolist()], np.int64)
    numbers = np.cumsum(sizes) // packing.shard_bytes
    cuts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(order)]
    for start, end in pairwise(cuts):
        if end > start:
            yield order[start:end]


def estimated(split: PhotoSplit, index: int, packing: Packing) -> int:
    """Return about how many bytes a photo takes in a shard."""
    if packing.content == "raw":
        return 3 * packing.side * packing.side * 4 // 3
    if packing.content == "jpeg":
        return packing.side * packing.side // 2
    try:
        with split.opened(index) as file:
            return file.seek(0, io.SEEK_END)
    except OSError:
        return 0  # told when it is read


def write_shard(
    part: Path,
    shard: str,
    split: PhotoSplit,
    places: NDArray[np.int64],
    packing: Packing,
    on_photo: Callable[[int], None],
) -> list[str]:
    """Write one shard, its index, and what is to be known of it; returns what is wrong with photos."""
    rows: list[Row] = []
    bad: list[str] = []
    digest, written = hashlib.sha256(), 0
    with photo_threads(None) as pool, atomic_write(part / shard) as file:

        def put(block: bytes) -> None:
            nonlocal written
            file.write(block)
            digest.update(block)
            written += len(block)

        for number, (index, ready) in enumerate(in_order(pool, split, places, packing)):
            try:
                content, ending, sides = ready.result()
            except BadImage as error:
                bad.append(error.what)
                continue
            finally:
                on_photo(1)
            header = tar_header(f"{number:09d}{ending}", len(content))
            label = str(int(split.labels[index])).encode()
            path = split.paths[index]
            rows.append((bytes(path), written + len(header), len(content), int(split.labels[index]), sides))
            for each in (header, content, padding(content), tar_header(f"{number:09d}.cls", len(label)), label,
                          padding(label)):  # fmt: skip
                put(each)
        put(bytes(2 * TAR_BLOCK))
    if bad:
        (part / shard).unlink()
        return bad
    shard_index = index_bytes(one_shard(shard, rows))
    with atomic_write(part / (shard.removesuffix(SHARD) + INDEX)) as file:
        file.write(shard_index)
    write_json(part / f"{shard}.json", {"photos": len(rows), "bytes": written, "sha256": digest.hexdigest(),
                                        "index_sha256": hashlib.sha256(shard_index).hexdigest()})  # fmt: skip
    return []


Ready = tuple[bytes, str, tuple[int, int]]  # content, ending, and width and height of pixels


def in_order(
    pool: ThreadPoolExecutor, split: PhotoSplit, places: Sequence[int] | NDArray[np.int64], packing: Packing
) -> Iterator[tuple[int, Future[Ready]]]:
    """Yield the photos in order, made ready in threads some way ahead."""
    waiting: list[tuple[int, Future[Ready]]] = []
    for index in np.asarray(places).tolist():
        waiting.append((index, pool.submit(made_ready, split, index, packing)))
        if len(waiting) == AHEAD:
            yield waiting.pop(0)
    yield from waiting


def made_ready(split: PhotoSplit, index: int, packing: Packing) -> Ready:
    """Return what is stored of a photo; BadImage where it cannot be read whole."""
    pixels = split.read(index)  # of the original, too: a pack has no photo that cannot be read
    ending = Path(split.path(index)).suffix.lower()
    if packing.content == "original":
        return bytes(split.data(index)), ending, (0, 0)
    small = smaller(pixels, packing.side)
    if packing.content == "raw":
        return np.ascontiguousarray(small).tobytes(), ".rgb", (small.shape[1], small.shape[0])
    if small is pixels and plain_jpeg(split.data(index)):
        return bytes(split.data(index)), ".jpg", (0, 0)
    return encoded(small, packing.quality), ".jpg", (0, 0)


def smaller(pixels: Pixels, side: int) -> Pixels:
    """Shrink the short side of [H, W, 3] to `side`, with antialias; a small photo is returned as it is."""
    return pixels if min(pixels.shape[:2]) <= side else resize_short(pixels, side, "pillow-bilinear")


def encoded(pixels: Pixels, quality: int) -> bytes:
    """Save RGB [H, W, 3] as a JPEG."""
    content: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality, "RGB", "420", fastdct=False)
    return content


def tar_header(name: str, size: int) -> bytes:
    """Return the header of a tar's member, the same for the same content whoever writes it and when."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT)


def padding(content: bytes) -> bytes:
    """Return what fills a member up to whole blocks."""
    return bytes(-len(content) % TAR_BLOCK)
