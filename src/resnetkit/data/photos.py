"""Photos in files: where they lie, their labels, and nothing decoded until it is asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.decode import Encoded, decode
from resnetkit.data.resize import Pixels
from resnetkit.errors import BadImage

ENDINGS = {".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
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

    def path(self, index: int) -> str:
        """Return a photo's path below the split's folder."""
        return os.fsdecode(self.paths[index])

    def file(self, index: int) -> Path:
        """Return where a photo lies."""
        return self.folder / self.path(index)

    def name(self, index: int) -> str:
        """Return what a photo is called in messages."""
        return str(self.file(index))

    def data(self, index: int) -> Encoded:
        """Return the bytes of one photo's file; BadImage names one that cannot be read."""
        file = self.file(index)
        try:
            return file.read_bytes()
        except OSError as error:
            raise BadImage(f"{file}: {error.strerror}") from error

    def opened(self, index: int) -> BinaryIO:
        """Open a photo's file, to read no more of it than is asked for; OSError where that fails."""
        return self.file(index).open("rb")

    def stored_size(self, index: int) -> tuple[int, int] | None:
        """Return width and height of a photo that is stored as pixels; None: it is a file of an image format."""
        return None

    def read(self, index: int) -> Pixels:
        """Decode one photo to RGB uint8 [H, W, 3]; BadImage names a file that cannot be read."""
        return decode(self.data(index), self.name(index))

    def blocks(self) -> NDArray[np.int64] | None:
        """Return where stretches of photos begin that are best read in a row [M]; None: any order will do."""
        return None


@dataclass(frozen=True, eq=False)
class PhotoDataset:
    """A data set of photos, in whatever layout.

    sha256 is over names and sizes of the files, relative to each split's folder, not over their bytes.
    """

    name: str  # of the folder or list
    root: Path
    train: PhotoSplit
    test: PhotoSplit
    class_names: tuple[str, ...]
    sha256: str
    layout: str  # class folders, list, imagenet1k, imagenet21k, cub200
    notes: tuple[str, ...] = ()  # how it differs from what is official, what was set apart
    val: PhotoSplit | None = None  # evaluated while training, where the data has such images beside `test`


def some_of(names: Sequence[str]) -> str:
    """Name the first of many; bytes that are no text are shown as "?"."""
    rest = len(names) - NAMED
    said = ", ".join(names[:NAMED]).encode("utf-8", "replace").decode()
    return said + (f" and {rest:,} more" if rest > 0 else "")
