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


def part_of(
    origin: Path,
    folder: Path,
    found: Sequence[tuple[bytes, int]],  # path and bytes
    labels: Iterable[int],
    names: tuple[str, ...] | None,
    problems: Iterable[str] = (),
) -> Part:
    """Put a part together; an array takes a tenth of what a list of names would."""
    return Part(
        origin,
        folder,
        np.array([path for path, _ in found], np.bytes_),
        np.array([size for _, size in found], np.int64),
        np.fromiter(labels, np.int64),
        names,
        tuple(problems),
    )


# --- class folders ---


def class_folder_part(folder: Path) -> Part:
    """List the photos below a folder of class folders, classes and photos in the order of their names."""
    names = class_folders(folder)
    try:
        classes = [sorted(images_below(folder / name, name)) for name in names]
        loose = sum(is_image(file, folder) for file in folder.iterdir()) if folder.is_dir() else 0
    except OSError as error:
        raise BadRequest(f"{error.filename}: {error.strerror}") from error
    labels = np.repeat(np.arange(len(names)), [len(images) for images in classes])
    found = [image for images in classes for image in images]
    empty = [name for name, images in zip(names, classes, strict=True) if not images]
    return part_of(folder, folder, found, labels, names, folder_problems(folder, names, loose, empty))


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
    found, missing = [], []
    for path in paths:
        size = size_of(folder / path)
        found.append((os.fsencode(path), size or 0))
        if size is None:
            missing.append(path)
    absent = f"{origin}: files that are not in {folder}, {len(missing):,} of {len(paths):,}: {some_of(missing)}"
    return part_of(origin, folder, found, labels, names, [absent] if missing else [])


def size_of(file: Path) -> int | None:
    """Return the bytes of a file, None where there is none."""
    try:
        return file.stat().st_size if file.is_file() else None
    except (OSError, ValueError):  # a name that no file can have
        return None
