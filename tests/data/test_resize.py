from __future__ import annotations

import zlib
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from resnetkit.data.resize import centre_crop, mirrored, neighbours, resize, resize_short, view
from resnetkit.recipe import ResizeFamily

Pixels = NDArray[np.uint8]
RNG = np.random.default_rng(0)
FAMILIES: tuple[ResizeFamily, ...] = get_args(ResizeFamily)
PILLOW: dict[ResizeFamily, Image.Resampling] = {
    "pillow-bilinear": Image.Resampling.BILINEAR,
    "pillow-bicubic": Image.Resampling.BICUBIC,
}
# zlib.crc32 of cv2.resize's bytes, by OpenCV 4.5.5, 4.12.0 and 5.0.0 alike.
OPENCV = [
    (8, 13, 0x8F6128CE),
    (20, 28, 0x657BBA76),  # exactly half
    (33, 56, 0xC51D37C6),
    (80, 70, 0xDB9BFCBA),
    (1, 1, 0xEF67CC16),
    (94, 131, 0x2DBD87B4),  # places in float64 would give other bytes
]


def picture(height: int, width: int) -> Pixels:
    """Curves of every colour that need no file."""
    y, x, channel = np.indices((height, width, 3))
    return np.asarray((x * x * 3 + y * y * 5 + x * y * (channel + 1) + 40 * channel) // 7 % 256, np.uint8)


def exact_bilinear(pixels: Pixels, height: int, width: int) -> NDArray[np.float64]:
    """Interpolate in floating point between pixel centres, edges repeated."""
    result: NDArray[np.float64] = pixels.astype(np.float64)
    for axis, size in enumerate((height, width)):
        now = result.shape[axis]
        places = np.clip((np.arange(size) + 0.5) * now / size - 0.5, 0, now - 1)
        before = np.floor(places).astype(int)
        share = (places - before).reshape([-1 if a == axis else 1 for a in range(3)])
        after = np.minimum(before + 1, now - 1)
        result = result.take(before, axis) * (1 - share) + result.take(after, axis) * share
    return result


# --- the two families ---


@pytest.mark.parametrize(("height", "width", "crc"), OPENCV)
def test_bytes_of_opencv(height: int, width: int, crc: int) -> None:
    found = resize(picture(40, 56), height, width, "cv2-bilinear")
    assert found.shape == (height, width, 3)
    assert zlib.crc32(np.ascontiguousarray(found).tobytes()) == crc


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_opencv_family_is_bilinear_without_antialias(height: int, width: int, rows: int, columns: int) -> None:
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    found = resize(pixels, rows, columns, "cv2-bilinear")
    assert found.dtype == np.uint8
    assert np.abs(found - exact_bilinear(pixels, rows, columns)).max() < 1.3  # weights of 1/2048, and two cuts


@given(st.integers(1, 500), st.integers(1, 500))
def test_weights_of_opencv_make_one(size: int, new_size: int) -> None:
    pair, weights = neighbours(size, new_size)
    assert (weights.sum(axis=0) == 2048).all()
    assert weights.min() >= 0
    assert pair.min() >= 0
    assert pair.max() <= size - 1


@pytest.mark.parametrize("family", PILLOW)
def test_pillow_families_are_pillows(family: ResizeFamily) -> None:
    expected = np.asarray(Image.fromarray(picture(40, 56)).resize((13, 8), PILLOW[family]))
    np.testing.assert_array_equal(resize(picture(40, 56), 8, 13, family), expected)


def test_only_pillow_averages_what_a_pixel_covers() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::4] = 255  # one of four columns is white
    spread = {family: resize(stripes, 16, 16, family) for family in FAMILIES}
    assert (spread["cv2-bilinear"][:, 1:-1] == 0).all()  # looks at the columns between
    assert (np.abs(spread["pillow-bilinear"][:, 1:-1].astype(int) - 64) < 20).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_one_colour_stays_and_the_same_size_is_untouched(family: ResizeFamily) -> None:
    plain = np.full((30, 17, 3), (3, 128, 251), np.uint8)
    for size in ((7, 40), (15, 17), (60, 5)):
        found = resize(plain, *size, family).astype(int)
        assert np.abs(found - plain[0, 0]).max() <= 1, size  # OpenCV cuts off twice
    pixels = picture(9, 11)
    assert resize(pixels, 9, 11, family) is pixels
    mirrored = pixels[:, ::-1]  # not contiguous
    np.testing.assert_array_equal(resize(mirrored, 5, 6, family), resize(mirrored.copy(), 5, 6, family))


# --- short side, crop and view ---


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 60))
def test_the_short_side_is_exact_and_the_other_rounded_down(height: int, width: int, short: int) -> None:
    if max(height, width) * short > 4000 * min(height, width):
        return
    found = resize_short(np.zeros((height, width, 3), np.uint8), short, "pillow-bilinear").shape
    assert min(found[:2]) == short
    assert found[:2] == (height * short // min(height, width), width * short // min(height, width))


def test_squares_of_any_size_give_the_whole_crop() -> None:
    for side in range(1, 600):  # 49 * (8 / 49) is less than 8 in floating point
        assert resize_short(np.zeros((side, side, 3), np.uint8), 8, "pillow-bilinear").shape == (8, 8, 3)


def test_the_crop_is_rounded_to_the_nearest_half_to_even() -> None:
    wide = picture(8, 11)
    np.testing.assert_array_equal(centre_crop(wide, 8), wide[:, 2:10])  # 1.5 is rounded to 2
    np.testing.assert_array_equal(centre_crop(picture(8, 13), 8), picture(8, 13)[:, 2:10])  # and so is 2.5
    np.testing.assert_array_equal(centre_crop(picture(8, 8), 6), picture(8, 8)[1:7, 1:7])
    with pytest.raises(AssertionError, match="a crop of 9 from 8 x 11 pixels"):
        centre_crop(wide, 9)


def by_pillow(pixels: Pixels, resize_size: int, crop_size: int) -> Pixels:
    height, width = pixels.shape[:2]
    short = min(height, width)
    size = (width * resize_size // short, height * resize_size // short)
    resized = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)
    left, top = round((size[0] - crop_size) / 2), round((size[1] - crop_size) / 2)
    return np.asarray(resized.crop((left, top, left + crop_size, top + crop_size)))


@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    crop_size=st.integers(1, 40),
    margin=st.none() | st.integers(0, 20),
)
def test_view_equals_pillow_at_the_exact_size(height: int, width: int, crop_size: int, margin: int | None) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    resize_size = None if margin is None else crop_size + margin
    found = view(pixels, resize_size=resize_size, crop_size=crop_size, family="pillow-bilinear", keep_ratio=True)
    assert found.shape == (crop_size, crop_size, 3)
    if max(height, width) <= 64 * min(height, width):
        np.testing.assert_array_equal(found, by_pillow(pixels, resize_size or crop_size, crop_size))


@pytest.mark.parametrize("family", FAMILIES)
def test_view_of_a_squeezed_photo(family: ResizeFamily) -> None:
    pixels = picture(30, 50)
    found = view(pixels, resize_size=20, crop_size=14, family=family, keep_ratio=False)
    np.testing.assert_array_equal(found, resize(pixels, 20, 20, family)[3:17, 3:17])
    whole = view(pixels, resize_size=None, crop_size=14, family=family, keep_ratio=False)
    np.testing.assert_array_equal(whole, resize(pixels, 14, 14, family))


@pytest.mark.parametrize("shape", [(1, 200_000, 3), (200_000, 1, 3), (3, 50_000, 3)])
def test_a_strip_does_not_fill_the_memory(shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    by_pillow = Image.Image.resize

    def watched(image: Image.Image, size: tuple[int, int], *rest: Any) -> Image.Image:
        assert size[0] * size[1] < 10_000_000  # before the memory is asked for
        return by_pillow(image, size, *rest)

    monkeypatch.setattr(Image.Image, "resize", watched)
    pixels = np.zeros(shape, np.uint8)
    longest = max(shape)
    middle = pixels[:, longest // 2 - 10 : longest // 2 + 10] if shape[1] == longest else pixels[longest // 2 - 10 :]
    middle[: 20 if shape[0] == longest else None] = 255  # only the middle is white
    found = view(pixels, resize_size=256, crop_size=224, family="pillow-bilinear", keep_ratio=True)
    assert found.shape == (224, 224, 3)
    assert (found == 255).all()


@pytest.mark.parametrize(("height", "width"), [(224, 224), (31, 57), (300, 20)])
def test_torchs_bilinear_is_pillows_to_one_level(height: int, width: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (120, 161, 3), np.uint8)
    for source in (pixels, pixels[3:90, 5:77], pixels[::-1]):
        ours = resize(source, height, width, "torch-bilinear")
        theirs = resize(source, height, width, "pillow-bilinear")
        assert ours.shape == (height, width, 3) and ours.flags.c_contiguous
        assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


def test_mirrored_pixels_are_those_of_a_reversed_view_and_nothing_is_written() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 7, 3), np.uint8)
    kept = pixels.copy()
    pixels.flags.writeable = False  # as a mapped file's
    np.testing.assert_array_equal(mirrored(pixels), kept[:, ::-1])
    np.testing.assert_array_equal(resize(pixels, 12, 9, "torch-bilinear").shape, (12, 9, 3))
    np.testing.assert_array_equal(pixels, kept)
