"""One split of a tree of photos as it lies on disk, labelled by the names that the layout gives its classes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.photos import ENDINGS, is_image, some_of
from resnetkit.errors import BadRequest


@dataclass(frozen=True, eq=False)
class Part:
    """The photos of one split, before the classes of all splits are brought together."""

    origin: Path  # the folder or list that says so
    folder: Path  # that the paths are relative to
    paths: NDArray[np.bytes_]  # [N]
    sizes: NDArray[np.int64]  # [N], bytes
    labels: NDArray[np.int64]  # [N], places in `names`, or where there are none, in the class names
    names: tuple[str, ...] | None
    problems: tuple[str, ...] = field(default=())


Found = Sequence[tuple[bytes, int]]  # path and bytes of files


def arrays_of(found: Found) -> tuple[NDArray[np.bytes_], NDArray[np.int64]]:
    """Return paths and sizes as arrays, which take a tenth of the memory."""
    return np.array([path for path, _ in found], np.bytes_), np.array([size for _, size in found], np.int64)


# --- class folders ---


def class_folder_part(folder: Path) -> Part:
    """List the photos below a folder of class folders, classes and photos in the order of their names."""
    names = class_folders(folder)
    try:
        classes = [arrays_of(sorted(images_below(folder / name, name))) for name in names]
        loose = sum(is_image(file, folder) for file in folder.iterdir()) if folder.is_dir() else 0
    except OSError as error:
        raise BadRequest(f"{error.filename}: {error.strerror}") from error
    counts = [len(paths) for paths, _ in classes]
    empty = [name for name, count in zip(names, counts, strict=True) if not count]
    paths, sizes = (np.concatenate(arrays) for arrays in zip(arrays_of([]), *classes, strict=True))
    problems = tuple(folder_problems(folder, names, loose, empty))
    return Part(folder, folder, paths, sizes, np.repeat(np.arange(len(names)), counts), names, problems)


def folder_problems(folder: Path, names: Sequence[str], loose: int, empty: Sequence[str]) -> list[str]:
    """Say what of a split's folder does not fit."""
    if not folder.is_dir():
        return [f"{folder}: no such folder"]
    if not names:
        return [f"{folder}: no class folders; images directly in it: {loose:,}"]
    problems = []
    if loose:
        problems.append(f"{folder}: images beside the class folders: {loose:,}")
    if empty:
        problems.append(f"{folder}: class folders without images: {some_of(empty)}")
    return problems


def class_folders(folder: Path) -> tuple[str, ...]:
    """Return the names of the folders in a split's folder that are not hidden, in order."""
    if not folder.is_dir():
        return ()
    with os.scandir(folder) as entries:
        return tuple(sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")))


def images_below(folder: Path, name: str) -> Iterator[tuple[bytes, int]]:
    """Yield path and bytes of each image; `name` is the folder's own path.  Links to folders are not followed."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = f"{name}/{entry.name}" if name else entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from images_below(folder / entry.name, path)
            elif PurePath(entry.name).suffix.lower() in ENDINGS and entry.is_file():
                yield os.fsencode(path), entry.stat().st_size


# --- lists ---


def listed_part(
    origin: Path, folder: Path, paths: Sequence[str], labels: Iterable[int], names: tuple[str, ...] | None
) -> Part:
    """Put together the photos that a list names, all of which must be there."""
    sizes = [size_of(folder / path) for path in paths]
    missing = [path for path, size in zip(paths, sizes, strict=True) if size is None]
    absent = f"{origin}: files that are not in {folder}, {len(missing):,} of {len(paths):,}: {some_of(missing)}"
    # a path of any length, which no file has, would be as much memory for every other
    encoded = np.array(
        [b"" if size is None else os.fsencode(path) for path, size in zip(paths, sizes, strict=True)], np.bytes_
    )
    found = np.array([size or 0 for size in sizes], np.int64)
    problems = (absent,) if missing else ()
    return Part(origin, folder, encoded, found, np.fromiter(labels, np.int64), names, problems)


def size_of(file: Path) -> int | None:
    """Return the bytes of a file, None where there is none."""
    try:
        return file.stat().st_size if file.is_file() else None
    except (OSError, ValueError):  # a name that no file can have
        return None
