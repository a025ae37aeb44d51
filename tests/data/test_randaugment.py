from __future__ import annotations

import zlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from resnetkit.data import randaugment
from resnetkit.data.randaugment import OPS, Op, RandAugment, magnitude_of
from resnetkit.data.transforms import random_stream

Pixels = NDArray[np.uint8]
FILL = (124, 116, 104)

# Levels 7 and 6 as in the facts gathered from mmcls 0.23 (A1 and A2 use 7, A3 uses 6), and the ends.
MAGNITUDES = {
    "auto_contrast": (0, 0, 0, 0),
    "equalize": (0, 0, 0, 0),
    "invert": (0, 0, 0, 0),
    "rotate": (0, 18, 21, 30),
    "posterize": (4, 2, 2, 0),
    "solarize": (256, 102.4, 76.8, 0),
    "solarize_add": (0, 66, 77, 110),
    "color": (0, 0.54, 0.63, 0.9),
    "contrast": (0, 0.54, 0.63, 0.9),
    "brightness": (0, 0.54, 0.63, 0.9),
    "sharpness": (0, 0.54, 0.63, 0.9),
    "shear_x": (0, 0.18, 0.21, 0.3),
    "shear_y": (0, 0.18, 0.21, 0.3),
    "translate_x": (0, 0.27, 0.315, 0.45),
    "translate_y": (0, 0.27, 0.315, 0.45),
}
SIGNED = {"rotate", "color", "contrast", "brightness", "sharpness", "shear_x", "shear_y", "translate_x", "translate_y"}
# zlib.crc32 of the bytes (RGB) that mmcv gives for `picture()`: 1.7.2 over OpenCV 4.5.5 and 2.2.0 over 4.12.0 alike.
MMCV = [
    ("auto_contrast", 0, 0xC2DD1D0F),
    ("equalize", 0, 0x110D7ED5),
    ("invert", 0, 0x04310025),
    ("rotate", 21, 0x688C482F),
    ("rotate", -18, 0x55FD8F68),
    ("posterize", 2, 0x5F3C17DA),
    ("posterize", 0, 0x0FE6C9A5),
    ("solarize", 76.8, 0xE981D5C5),
    ("solarize", 102.4, 0x0E05645B),
    ("solarize_add", 77, 0x6011493F),
    ("solarize_add", 66, 0x91939F60),
    ("color", 0.63, 0x6481AA5A),
    ("color", -0.54, 0xABBFAD1A),
    ("contrast", 0.63, 0x20B1E2AE),
    ("contrast", -0.54, 0x23783276),
    ("brightness", 0.63, 0x2C9C5E3D),
    ("brightness", -0.54, 0xB43E8171),
    ("sharpness", 0.63, 0xC9E7458D),
    ("sharpness", -0.54, 0x7177694E),
    ("shear_x", 0.21, 0x0C7A27B4),
    ("shear_x", -0.18, 0x9A66FFCE),
    ("shear_y", 0.21, 0xC3D222EF),
    ("shear_y", -0.18, 0x53B0B7BC),
    ("translate_x", 0.315, 0x485004C3),
    ("translate_x", -0.27, 0xE5BAC21B),
    ("translate_y", 0.315, 0x593991D0),
    ("translate_y", -0.27, 0x530701CE),
]


def picture() -> Pixels:
    """Curves of 60 to 187, so that every operation has something to do: uint8 [40, 56, 3]."""
    y, x, channel = np.indices((40, 56, 3))
    return np.asarray((x * x * 3 + y * y * 5 + x * y * (channel + 1) + 40 * channel) // 7 % 256 // 2 + 60, np.uint8)


# --- the operations ---


@pytest.mark.parametrize(("op", "magnitude", "crc"), MMCV)
def test_bytes_of_mmcv(op: str, magnitude: float, crc: int) -> None:
    pixels = picture()
    found = OPS[op].change(pixels, magnitude, FILL)
    assert found.dtype == np.uint8
    assert found.shape == pixels.shape
    assert zlib.crc32(np.ascontiguousarray(found).tobytes()) == crc
    np.testing.assert_array_equal(pixels, picture())  # the photo is not written to


def test_the_golden_values_reach_every_operation() -> None:
    assert {op for op, _, _ in MMCV} == set(OPS) == set(MAGNITUDES)
    assert len(OPS) == 15


@pytest.mark.parametrize("op", OPS)
def test_magnitudes(op: str) -> None:
    assert [magnitude_of(op, level) for level in (0, 6, 7, 10)] == pytest.approx(MAGNITUDES[op])
    assert OPS[op].signed == (op in SIGNED)


@given(st.floats(0, 10))
def test_posterize_rounds_bits_up(level: float) -> None:
    bits = magnitude_of("posterize", level)
    assert bits == int(bits)
    assert 0 <= bits - (4 - 0.4 * level) < 1 + 1e-9


@pytest.mark.parametrize("op", sorted(SIGNED))
def test_signed_operations_do_nothing_at_level_zero(op: str) -> None:
    np.testing.assert_array_equal(OPS[op].change(picture(), 0, FILL), picture())


def test_directions() -> None:
    """A white dot on black moves as the signs say; what comes in is the fill."""
    dot = np.zeros((21, 21, 3), np.uint8)
    dot[10, 15] = 255

    def moved_to(op: str, magnitude: float) -> tuple[int, int]:
        found = OPS[op].change(dot, magnitude, (0, 0, 0)).sum(axis=2)
        row, column = np.unravel_index(found.argmax(), found.shape)
        return int(row), int(column)

    assert moved_to("translate_x", 4 / 21) == (10, 19)
    assert moved_to("translate_y", -4 / 21) == (6, 15)
    assert moved_to("shear_x", 0.3) == (10, 18)  # 0.3 times its row
    assert moved_to("shear_y", 0.2) == (13, 15)  # 0.2 times its column
    assert moved_to("rotate", 90.0) == (15, 10)  # clockwise
    assert OPS["translate_x"].change(dot, 0.3, FILL)[0, 0].tolist() == list(FILL)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("shape", [(2, 2), (2, 17), (33, 3)])
def test_small_plain_and_mirrored_photos(op: str, shape: tuple[int, int]) -> None:
    magnitude = magnitude_of(op, 7)
    plain = np.full((*shape, 3), 77, np.uint8)
    assert OPS[op].change(plain, magnitude, FILL).shape == plain.shape
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    mirrored = OPS[op].change(pixels[:, ::-1], magnitude, FILL)
    np.testing.assert_array_equal(mirrored, OPS[op].change(pixels[:, ::-1].copy(), magnitude, FILL))


# --- the draws ---


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """Record operations and magnitudes instead of changing anything."""
    seen: list[tuple[str, float]] = []

    def recorded(name: str, op: Op) -> Op:
        def change(pixels: Pixels, magnitude: float, fill: tuple[int, ...]) -> Pixels:
            assert fill == (9, 8, 7)
            seen.append((name, magnitude))
            return pixels

        return Op(change, op.span, op.signed)

    monkeypatch.setattr(randaugment, "OPS", {name: recorded(name, op) for name, op in OPS.items()})
    return seen


def test_draws_are_those_of_the_page(calls: list[tuple[str, float]]) -> None:
    augment, photos = RandAugment(level=7.0, fill=(9, 8, 7)), 6000
    per_photo = []
    for photo in range(photos):
        before = len(calls)
        augment(picture(), random_stream(0, photo))
        per_photo.append(len(calls) - before)
    counts = Counter(per_photo)  # two operations, each with one half
    assert [counts[fired] / photos for fired in (0, 1, 2)] == pytest.approx([0.25, 0.5, 0.25], abs=0.025)
    names = Counter(name for name, _ in calls)
    assert len(names) == 15
    assert min(names.values()) > 0.75 * len(calls) / 15
    assert max(names.values()) < 1.25 * len(calls) / 15
    levels = np.array([magnitude / 3 for name, magnitude in calls if name == "rotate"])
    assert np.abs(levels).mean() == pytest.approx(7, abs=0.1)
    assert np.abs(levels).std() == pytest.approx(0.5, abs=0.07)
    assert (levels < 0).mean() == pytest.approx(0.5, abs=0.1)
    assert all(magnitude >= 0 for name, magnitude in calls if name not in SIGNED)


def test_levels_are_limited(calls: list[tuple[str, float]]) -> None:
    for photo in range(300):
        RandAugment(num_ops=3, level=9.5, level_std=5, fill=(9, 8, 7))(picture(), random_stream(photo))
    found = [magnitude for name, magnitude in calls if name == "solarize_add"]
    assert max(found) == 110
    assert min(found) >= 0
    assert 110 in Counter(found)


def test_the_same_numbers_give_the_same_photo() -> None:
    augment = RandAugment()
    first, second, other = (augment(picture(), random_stream(seed)) for seed in (3, 3, 5))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()
