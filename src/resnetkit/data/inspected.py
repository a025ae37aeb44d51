"""Inspections that are kept: a folder's files are read once, and after a stop only those that are left or changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.inspection import THUMBNAIL, Inspection, inspect_file
from resnetkit.data.photo_loader import photo_threads
from resnetkit.errors import BadRequest
from resnetkit.home import home, locked

VERSION = 1  # of what an inspection finds; another one's are made anew
LINES, THUMBNAILS = "inspected.jsonl", "thumbnails.u8"
BYTES = THUMBNAIL * THUMBNAIL
AHEAD = 256  # files that wait for a thread

Stamp = tuple[int, int]  # bytes and time of change in ns: another pair is another file


@dataclass(frozen=True)
class Inspected:
    """What is known of some files, in their order."""

    inspections: tuple[Inspection, ...]
    thumbnails: NDArray[np.uint8]  # [N, 32, 32]; zero where a file cannot be decoded
    known: int  # how many had been inspected before


def kept_in(root: Path) -> Path:
    """Return the folder where inspections of a data set are kept."""
    return home() / "doctor" / hashlib.sha256(str(root.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def inspect_all(files: Sequence[Path], folder: Path, on_files: Callable[[int], None] = lambda count: None) -> Inspected:
    """Inspect files on all cores; what `folder` knows of them already is taken from there, the rest added to it.

    `on_files` is called with how many more are done.  Raises BadRequest where another process does the same.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def refuse() -> None:
        raise BadRequest("another process inspects the same data", f"got a lock on {folder}", "next: wait for it")

    with locked(folder / "lock", on_wait=refuse):
        known = read_known(folder)
        inspections: list[Inspection | None] = [None] * len(files)
        thumbnails = np.zeros((len(files), THUMBNAIL, THUMBNAIL), np.uint8)
        left = []
        for place, file in enumerate(files):
            found = known.get(str(file))
            if found and found[0] == stamp_of(file):
                inspections[place], picture = found[1], found[2]
                if picture is not None:
                    thumbnails[place] = picture
            else:
                left.append(place)
        on_files(len(files) - len(left))
        with added(folder) as add:
            for place, inspection, picture in in_threads(files, left):
                add(files[place], inspection, picture)
                inspections[place] = inspection
                if picture is not None:
                    thumbnails[place] = picture
                on_files(1)
    whole = tuple(inspection for inspection in inspections if inspection is not None)
    assert len(whole) == len(files)
    return Inspected(whole, thumbnails, len(files) - len(left))


def in_threads(
    files: Sequence[Path], places: Sequence[int]
) -> Iterator[tuple[int, Inspection, NDArray[np.uint8] | None]]:
    """Inspect the files at some places, in this order."""
    pool = photo_threads(None)
    waiting: list[tuple[int, Future[tuple[Inspection, NDArray[np.uint8] | None]]]] = []
    try:
        for place in places:
            waiting.append((place, pool.submit(inspect_file, files[place])))
            if len(waiting) == AHEAD:
                first, done = waiting.pop(0)
                yield first, *done.result()
        for place, done in waiting:
            yield place, *done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def stamp_of(file: Path) -> Stamp | None:
    """Return a file's size and time of change; None where there is none."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


Known = dict[str, tuple[Stamp, Inspection, NDArray[np.uint8] | None]]


def read_known(folder: Path) -> Known:
    """Read what was inspected; a line that was cut off, and what is of another version, count as not there."""
    lines, pictures = folder / LINES, folder / THUMBNAILS
    if not lines.is_file():
        return {}
    stored = np.fromfile(pictures, np.uint8) if pictures.is_file() else np.empty(0, np.uint8)
    stored = stored[: len(stored) // BYTES * BYTES].reshape(-1, THUMBNAIL, THUMBNAIL)
    known: Known = {}
    with lines.open("rb") as file:
        for line in file:
            try:
                row: dict[str, Any] = json.loads(line)
            except ValueError:
                continue
            place = row["thumbnail"]
            if row["version"] == VERSION and (place is None or place < len(stored)):
                picture = None if place is None else stored[place]
                known[row["file"]] = tuple(row["stamp"]), Inspection.from_json(row["found"]), picture
    return known


@contextmanager
def added(folder: Path) -> Iterator[Callable[[Path, Inspection, NDArray[np.uint8] | None], None]]:
    """Open a folder's files to add inspections: the thumbnail first, then the line that says where it is."""
    with (folder / THUMBNAILS).open("ab") as pictures, (folder / LINES).open("ab") as raw:
        pictures.truncate(pictures.tell() // BYTES * BYTES)  # of a process that was killed
        if raw.tell() and not ends_whole(folder / LINES):
            raw.write(b"\n")

        def add(file: Path, inspection: Inspection, picture: NDArray[np.uint8] | None) -> None:
            place = None
            if picture is not None:
                place = pictures.seek(0, 2) // BYTES
                pictures.write(picture.tobytes())
                pictures.flush()
            row = {"version": VERSION, "file": str(file), "stamp": stamp_of(file), "thumbnail": place,
                   "found": inspection.to_json()}  # fmt: skip
            raw.write(json.dumps(row).encode() + b"\n")

        yield add


def ends_whole(file: Path) -> bool:
    """Say whether a file's last byte ends a line."""
    with file.open("rb") as opened:
        opened.seek(-1, 2)
        return opened.read() == b"\n"
