"""What an inspection says of single files, made here or the real odd ones."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resnetkit.data.inspection import PROBLEMS, THUMBNAIL, Inspection, inspect_bytes, inspect_file, thumbnail

TRICKY = Path(__file__).parents[3] / "shared" / "data" / "tricky-images.tar"
PIXELS = np.random.default_rng(0).integers(0, 256, (48, 40, 3), np.uint8)


def saved(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(PIXELS).convert(mode)
    image.save(file, kind, **options)
    return file.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved("JPEG", exif=exif)


def deep() -> bytes:
    file = io.BytesIO()
    Image.fromarray((PIXELS[:, :, 0].astype(np.uint16)) * 257).save(file, "PNG")
    return file.getvalue()


def animated() -> bytes:
    file = io.BytesIO()
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


def picture(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "name", "odd"),
    [
        (saved("JPEG"), "a.jpg", ()),
        (saved("JPEG"), "a.JPEG", ()),
        (saved("JPEG"), "a.png", ("wrong ending",)),
        (saved("JPEG", "CMYK"), "a.jpg", ("CMYK",)),
        (saved("JPEG", "L"), "a.jpg", ("grayscale",)),
        (saved("PNG", "P"), "a.png", ("palette",)),
        (saved("PNG", "RGBA"), "a.png", ("transparent",)),
        (saved("PNG", "LA"), "a.png", ("transparent", "grayscale")),
        (deep(), "a.png", ("16 bits", "grayscale")),
        (turned(), "a.jpg", ("turned by EXIF",)),
        (animated(), "a.gif", ("animated",)),
        (picture(31, 33), "a.png", ("very small",)),
        (picture(32, 160), "a.png", ()),
        (picture(32, 161), "a.png", ("very long",)),
        (saved("JPEG", icc_profile=b"x" * 200), "a.jpg", ("colour profile",)),
    ],
)  # fmt: skip
def test_what_is_odd_of_a_file_is_named(data: bytes, name: str, odd: tuple[str, ...]) -> None:
    found, small = inspect_bytes(data, name)
    assert found.problem is None and set(found.oddities) == {*odd, *(("palette",) if name == "a.gif" else ())}
    assert (found.size, found.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert small is not None and small.shape == (THUMBNAIL, THUMBNAIL) and small.dtype == np.uint8
    assert Inspection.from_json(found.to_json()) == found


def test_what_makes_a_file_useless_is_named() -> None:
    whole = saved("JPEG")
    cases = {
        b"": "empty",
        whole[: len(whole) // 2]: "truncated",
        saved("PNG")[:-200]: "truncated",
        b"no image at all": "unreadable",
        whole[:30]: "unreadable",
    }
    for data, problem in cases.items():
        found, small = inspect_bytes(data, "a.jpg")
        assert (found.problem, small) == (problem, None), data[:20]
        assert problem == "empty" or found.detail


def test_a_bomb_is_not_decoded() -> None:
    header = picture(1, 1)
    big = header[:16] + (20_000).to_bytes(4, "big") * 2 + header[24:]  # IHDR's sizes; its checksum is not looked at
    found, small = inspect_bytes(big, "a.png")
    assert found.problem in ("too many pixels", "unreadable") and small is None


def test_a_file_that_is_not_there_is_unreadable(tmp_path: Path) -> None:
    found, small = inspect_file(tmp_path / "none.jpg")
    assert (found.problem, found.detail, small) == ("unreadable", "No such file or directory", None)


def test_a_thumbnail_is_the_mean_of_what_it_covers() -> None:
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:32] = 200
    small = thumbnail(pixels)
    assert (small[:16] == 200).all() and (small[16:] == 0).all()


@pytest.mark.skipif(not TRICKY.exists(), reason="the odd images are not at hand")
def test_the_real_odd_images() -> None:
    with tarfile.open(TRICKY) as archive:
        found = {Path(member.name).name: inspect_bytes(opened.read(), Path(member.name).name)[0]
                 for member in archive if member.isfile() and (opened := archive.extractfile(member))}  # fmt: skip
    kinds = {oddity for each in found.values() for oddity in each.oddities}
    assert {"CMYK", "Lab", "16 bits", "palette", "transparent", "turned by EXIF", "animated"} <= kinds
    problems = {each.problem for each in found.values()}
    assert problems >= {"truncated", "unreadable"} and problems <= {None, *PROBLEMS}
    assert all(each.problem is None for name, each in found.items() if name.startswith("exif"))
