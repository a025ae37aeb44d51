"""Small trees of photos for tests, and what reading them says."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image

from resnetkit.data.photos import PhotoSplit
from resnetkit.data.trees import TREE, read_photos
from resnetkit.errors import BadRequest

FILES = (
    "train/cat/b.jpg",
    "train/cat/a.png",
    "train/cat/more/deep/c.JPEG",
    "train/dog/a.jpg",
    "train/ant/z.jpg",
    "val/cat/1.jpg",
    "val/dog/2.jpg",
    "val/ant/3.jpg",
)


def save(root: Path, names: Iterable[str]) -> Path:
    """Write small photos, the gray level of each its number in the list."""
    for number, name in enumerate(names):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        kind = "JPEG" if file.suffix.lower().startswith(".jp") else "PNG"
        Image.new("RGB", (4, 3), (10 * number,) * 3).save(file, kind)
    return root


def names(split: PhotoSplit) -> list[str]:
    return [split.file(index).relative_to(split.folder).as_posix() for index in range(len(split))]


def refused(root: Path) -> tuple[str, ...]:
    with pytest.raises(BadRequest) as caught:
        read_photos(root)
    assert caught.value.exit_code == 2
    assert caught.value.what.startswith(str(root))
    assert caught.value.details[-len(TREE) :] == TREE
    return tuple(detail.replace(str(root), "ROOT") for detail in caught.value.details[: -len(TREE)])


def listed(root: Path, **lists: str) -> Path:
    """Write lists beside the photos; `_` stands for a dot, `__` for a slash."""
    for name, text in lists.items():
        file = root / name.replace("__", "/").replace("_", ".")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return root
