"""Copies of pictures are found, and other pictures are not taken for copies."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from resnetkit.data.copies import Copy, find_copies, groups_of
from resnetkit.data.inspection import thumbnail


def natural(seed: int, side: int = 96) -> Image.Image:
    """A picture with large and small shapes, as photos have."""
    rng = np.random.default_rng(seed)
    layers = [np.asarray(Image.fromarray(rng.integers(0, 256, (size, size, 3), np.uint8)).resize((side, side)), float)
              for size in (3, 6, 12, 24)]  # fmt: skip
    mixed = sum(weight * layer for weight, layer in zip((0.45, 0.3, 0.15, 0.1), layers, strict=True))
    return Image.fromarray(np.asarray(mixed).astype(np.uint8))


def small(image: Image.Image) -> NDArray[np.uint8]:
    return thumbnail(np.asarray(image.convert("RGB")))


def resaved(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(io.BytesIO(file.getvalue()))


ORIGINALS = [natural(seed) for seed in range(40)]


def found(*others: Image.Image, parts: bool = True) -> list[Copy]:
    return find_copies(np.stack([small(image) for image in (*ORIGINALS, *others)]), parts=parts)


def test_different_pictures_are_no_copies() -> None:
    assert found() == []


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.resize((40, 40)),
        lambda image: image.resize((200, 150)),
        lambda image: resaved(image, 50),
        lambda image: image.filter(ImageFilter.GaussianBlur(1)),
        lambda image: image.convert("L"),
        lambda image: Image.eval(image, lambda level: level // 2 + 40),
    ],
)
def test_a_changed_picture_is_found(change: object) -> None:
    pairs = found(change(ORIGINALS[7]))  # type: ignore[operator]
    assert [(pair.first, pair.second, pair.kind) for pair in pairs] == [(7, 40, "copy")]
    assert pairs[0].likeness > 0.98


def test_a_mirrored_picture_is_found() -> None:
    pairs = found(ORIGINALS[3].transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert [(pair.first, pair.second, pair.kind) for pair in pairs] == [(3, 40, "mirrored")]


@pytest.mark.parametrize("box", [(0, 0, 80, 80), (10, 12, 90, 92), (20, 5, 85, 70)])
def test_a_part_is_found_with_what_it_was_cut_from(box: tuple[int, int, int, int]) -> None:
    part = ORIGINALS[5].crop(box).resize((64, 64))
    assert [(pair.first, pair.second, pair.kind) for pair in found(part)] == [(5, 40, "part")]
    assert found(part, parts=False) == []


def test_pictures_of_one_colour_are_no_copies_of_each_other() -> None:
    plain = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue", "white", "white")]
    assert found(*plain) == []


def test_no_pictures_have_no_copies() -> None:
    assert find_copies(np.empty((0, 32, 32), np.uint8)) == []


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_groups_are_the_connected_ones(pairs: list[tuple[int, int]]) -> None:
    groups = groups_of(10, pairs)
    reached = {number: {number} for number in range(10)}
    for _ in range(10):
        for one, other in pairs:
            both = reached[one] | reached[other]
            for number in both:
                reached[number] = reached[number] | both
    for number in range(10):
        assert groups[number] == min(reached[number])
