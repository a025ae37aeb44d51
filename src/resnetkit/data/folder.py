"""Photos in class folders: root/train/CLASS/*.jpg, with root/val or root/test beside it.

The classes are the folders of train in the order of their names, as everywhere since torchvision; within a class
the images are in the order of theirs.  Nothing is decoded until it is asked for, and a tree that does not fit is
refused whole, with all that is wrong in it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.decode import decode
from resnetkit.data.resize import Pixels
from resnetkit.errors import BadImage, BadRequest, did_you_mean

ENDINGS = {".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
TREE = (
    "expected",
    "  ROOT/train/CLASS/*.jpg  a folder for each class, with its images at any depth",
    "  ROOT/val/CLASS/*.jpg    or ROOT/test: the same classes, or some of them",
)
NAMED = 5  # of a long list, in a message


def is_image(file: Path, folder: Path) -> bool:
    """Tell whether a path below `folder` is an image file by its ending, and not hidden (like macOS's `._x.jpg`)."""
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return not hidden and file.suffix.lower() in ENDINGS and file.is_file()


@dataclass(frozen=True, eq=False)
class PhotoSplit:
    """The photos of one split and their labels; 14 million of them fit in memory."""

    folder: Path
    paths: NDArray[np.bytes_]  # [N], relative to `folder`, as the system encodes them
    labels: NDArray[np.int64]  # [N], places in the class names

    def __len__(self) -> int:
        return len(self.paths)

    def part(self, indices: NDArray[np.int64]) -> PhotoSplit:
        """Return the split of these photos [n], in this order."""
        return replace(self, paths=self.paths[indices], labels=self.labels[indices])

    def relabelled(self, numbers: Sequence[int]) -> PhotoSplit:
        """Return the same photos with label numbers[i] in place of i."""
        return replace(self, labels=np.asarray(numbers, np.int64)[self.labels])

    def file(self, index: int) -> Path:
        """Return where a photo lies."""
        return self.folder / os.fsdecode(self.paths[index])

    def read(self, index: int) -> Pixels:
        """Decode one photo to RGB uint8 [H, W, 3]; BadImage names a file that cannot be read."""
        file = self.file(index)
        try:
            data = file.read_bytes()
        except OSError as error:
            raise BadImage(f"{file}: {error.strerror}") from error
        return decode(data, str(file))


@dataclass(frozen=True, eq=False)
class PhotoDataset:
    """A data set of photos in class folders.

    sha256 is over the names, relative to each split's folder, and the sizes of the files, not over their bytes.
    """

    name: str  # of the folder
    root: Path
    train: PhotoSplit
    test: PhotoSplit
    class_names: tuple[str, ...]
    sha256: str


def read_photos(root: Path) -> PhotoDataset:
    """List the photos below `root`; BadRequest with everything that does not fit."""
    if not root.is_dir():
        raise BadRequest(f"{root}: no such folder", *TREE)
    train, test = look(root / "train"), look(held_out(root) or root / "val")
    problems = [*problems_of(train), *problems_of(test), *strangers(test, train.class_names)]
    if problems:
        raise BadRequest(f"{root}: not a data set of photos", *problems, *TREE)
    splits = split_of(train, train.class_names), split_of(test, train.class_names)
    return PhotoDataset(root.resolve().name, root, *splits, train.class_names, fingerprint(train, test))


def read_eval_photos(root: Path) -> tuple[PhotoSplit, tuple[str, ...]]:
    """List the photos to evaluate on, root/val, root/test or `root` itself, and the class names of the labels.

    The classes are those of root/train where it is there, so that labels stay the same when val lacks a class.
    """
    if not root.is_dir():
        raise BadRequest(f"{root}: no such folder", *TREE)
    chosen, train = held_out(root), root / "train"
    trained = class_folders(train)
    if chosen is None and trained:
        raise BadRequest(f"{root}: train has no val or test beside it", f"next: name {train} to evaluate on it")
    scan = look(chosen or root)
    class_names = trained or scan.class_names
    problems = [*problems_of(scan), *strangers(scan, class_names)]
    if problems:
        raise BadRequest(f"{root}: not a data set of photos", *problems, *TREE)
    return split_of(scan, class_names), class_names


def held_out(root: Path) -> Path | None:
    """Return root/val, or root/test where there is no val, or None."""
    return next((root / name for name in ("val", "test") if (root / name).is_dir()), None)


# --- what lies in a folder ---


@dataclass(frozen=True, eq=False)
class Scan:
    """What was found in a split's folder; each list has an array for each class."""

    folder: Path
    class_names: tuple[str, ...]
    paths: list[NDArray[np.bytes_]]  # relative to `folder`, in order
    sizes: list[NDArray[np.int64]]  # bytes
    loose: int  # images beside the class folders


def look(folder: Path) -> Scan:
    """List a split's folder; one that is not there has no classes."""
    class_names = class_folders(folder)
    try:
        classes = [sorted(images_below(folder / name, name)) for name in class_names]
        loose = sum(is_image(file, folder) for file in folder.iterdir()) if folder.is_dir() else 0
    except OSError as error:
        raise BadRequest(f"{error.filename}: {error.strerror}") from error
    # An array takes a tenth of what a list of names would.
    paths = [np.array([path for path, _ in images], np.bytes_) for images in classes]
    sizes = [np.array([size for _, size in images], np.int64) for images in classes]
    return Scan(folder, class_names, paths, sizes, loose)


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
            if entry.is_dir(follow_symlinks=False):
                yield from images_below(folder / entry.name, f"{name}/{entry.name}")
            elif PurePath(entry.name).suffix.lower() in ENDINGS and entry.is_file():
                yield os.fsencode(f"{name}/{entry.name}"), entry.stat().st_size


def split_of(scan: Scan, class_names: Sequence[str]) -> PhotoSplit:
    """Number the classes of a scan by their places in `class_names`."""
    numbers = {name: number for number, name in enumerate(class_names)}
    labels = np.array([numbers[name] for name in scan.class_names], np.int64)
    counts = [len(paths) for paths in scan.paths]
    return PhotoSplit(scan.folder, np.concatenate(scan.paths), np.repeat(labels, counts))


def fingerprint(train: Scan, test: Scan) -> str:
    """Return the sha256 of lines "SPLIT/CLASS/NAME, zero byte, bytes of the file", train first."""
    digest = hashlib.sha256()
    for split, scan in ((b"train/", train), (b"test/", test)):
        for paths, sizes in zip(scan.paths, scan.sizes, strict=True):
            lines = zip(paths.tolist(), sizes.tolist(), strict=True)
            digest.update(b"".join(b"%s%s\0%d\n" % (split, path, size) for path, size in lines))
    return digest.hexdigest()


# --- what is wrong with it ---


def problems_of(scan: Scan) -> list[str]:
    """Say what of a split's folder does not fit."""
    if not scan.folder.is_dir():
        return [f"{scan.folder}: no such folder"]
    if not scan.class_names:
        return [f"{scan.folder}: no class folders; images directly in it: {scan.loose:,}"]
    problems = []
    if scan.loose:
        problems.append(f"{scan.folder}: images beside the class folders: {scan.loose:,}")
    empty = [name for name, paths in zip(scan.class_names, scan.paths, strict=True) if not len(paths)]
    if empty:
        problems.append(f"{scan.folder}: class folders without images: {some_of(empty)}")
    return problems


def strangers(scan: Scan, class_names: Sequence[str]) -> list[str]:
    """Name the classes of a scan that are not among the known ones."""
    unknown = sorted(set(scan.class_names) - set(class_names))
    if not unknown or not class_names:
        return []
    return [
        f"{scan.folder}: classes that train does not have: {some_of(unknown)}{did_you_mean(unknown[0], class_names)}"
    ]


def some_of(names: Sequence[str]) -> str:
    """Name the first of many."""
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest:,} more" if rest > 0 else "")
