from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnetkit.data.headers import Header, read_header, spread_of, survey
from resnetkit.data.photos import PhotoSplit
from tiny import tiny_dataset


def split_of(folder: Path) -> PhotoSplit:
    names = sorted(file.name.encode() for file in folder.iterdir())
    return PhotoSplit(folder, np.array(names, np.bytes_), np.zeros(len(names), np.int64))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg")
    exif = Image.Exif()
    exif[274] = 6
    Image.new("L", (10, 50)).save(tmp_path / "b.png", exif=exif, icc_profile=b"some")
    Image.new("CMYK", (70, 40)).save(tmp_path / "c.jpg")
    (tmp_path / "d.jpg").write_bytes(b"")
    (tmp_path / "e.jpg").write_text("text")
    (tmp_path / "f.png").write_bytes((tmp_path / "b.png").read_bytes()[:200])  # its header is whole
    return tmp_path


def test_what_a_header_says(folder: Path) -> None:
    split = split_of(folder)
    assert read_header(split, 0) == Header("JPEG", "RGB", 30, 20, turned=False, profile=False)
    assert read_header(split, 1) == Header("PNG", "L", 10, 50, turned=True, profile=True)
    assert read_header(split, 3) == "the file is empty"
    assert read_header(split, 4) == "not an image of a known format"
    (folder / "e.jpg").unlink()
    assert "No such file" in str(read_header(split, 4))


@pytest.mark.parametrize("side", [10_001, 20_000])  # Pillow itself refuses the second only
def test_a_picture_that_decoding_would_refuse_for_its_size_is_told(side: int, folder: Path) -> None:
    Image.new("1", (side, side)).save(folder / "bomb.png")
    assert read_header(split_of(folder), 2) == "more than 100,000,000 pixels"


def test_headers_together(folder: Path) -> None:
    found = survey(split_of(folder), most=100)
    assert (found.images, found.looked_at) == (6, 6)
    assert (found.widths, found.heights) == ((10, 30, 70), (20, 50, 50))
    assert found.kinds == {"JPEG": 2, "PNG": 2}
    assert found.modes == {"L": 2, "RGB": 1, "CMYK": 1}
    assert (found.turned, found.profiles) == (2, 2)
    assert [(Path(file).name, reason) for file, reason in found.unreadable] == [
        ("d.jpg", "the file is empty"),
        ("e.jpg", "not an image of a known format"),
    ]
    some = survey(split_of(folder), most=2)
    assert (some.images, some.looked_at, some.kinds) == (6, 2, {"JPEG": 1})


def test_arrays_are_of_one_kind_and_nothing_is_zero() -> None:
    found = survey(tiny_dataset().train, most=3)
    assert (found.looked_at, found.widths, found.kinds) == (found.images, (16, 16, 16), {"arrays": found.images})
    assert spread_of([]) == (0, 0, 0)
