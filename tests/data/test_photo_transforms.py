from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from resnetkit.data.photo_transforms import (
    EIGENVALUES,
    EIGENVECTORS,
    HorizontalFlip,
    PadCrop,
    PcaLighting,
    PhotoTransform,
    RandomCrop,
    RandomErasing,
    RandomResizedCrop,
    Resize,
    ScaleJitter,
)
from resnetkit.data.resize import resize, resize_short
from resnetkit.data.transforms import random_stream

Pixels = NDArray[np.uint8]
PHOTO: Pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
EVERY: tuple[PhotoTransform, ...] = (
    RandomResizedCrop(24, family="cv2-bilinear"),
    Resize(40, keep_ratio=True, family="pillow-bilinear"),
    ScaleJitter(30, 50, family="cv2-bilinear"),
    RandomCrop(50),
    HorizontalFlip(),
    PcaLighting(),
)


@pytest.mark.parametrize("transform", EVERY, ids=lambda transform: type(transform).__name__)
def test_a_transform_is_a_function_of_photo_and_numbers(transform: PhotoTransform) -> None:
    before = PHOTO.copy()
    seen = set()
    for seed in range(20):
        found = transform(PHOTO, random_stream(seed))
        assert found.dtype == np.uint8
        assert found.shape[2] == 3
        np.testing.assert_array_equal(found, transform(PHOTO, random_stream(seed)))
        seen.add(found.tobytes())
    np.testing.assert_array_equal(PHOTO, before)
    assert (len(seen) == 1) == isinstance(transform, Resize)


# --- random resized crop ---


@given(height=st.integers(1, 600), width=st.integers(1, 600), seed=st.integers(0, 99))
def test_boxes_lie_in_the_photo(height: int, width: int, seed: int) -> None:
    top, left, rows, columns = RandomResizedCrop(8, family="cv2-bilinear").box(height, width, random_stream(seed))
    assert rows >= 1
    assert columns >= 1
    assert 0 <= top <= height - rows
    assert 0 <= left <= width - columns


def boxes(height: int, width: int, count: int = 3000) -> NDArray[np.int64]:
    crop, rng = RandomResizedCrop(8, family="cv2-bilinear"), random_stream(1)
    return np.array([crop.box(height, width, rng) for _ in range(count)])


def test_area_is_uniform_and_ratio_is_uniform_in_its_logarithm() -> None:
    top, left, rows, columns = boxes(10_000, 10_000).T
    # Only large areas may be refused by a side that does not fit, so the small ones tell.
    area = rows * columns / 1e8
    small = area < 0.7
    assert area.min() == pytest.approx(0.08, abs=0.01)
    assert np.histogram(area[small], 4, (0.08, 0.7))[0] / small.sum() == pytest.approx([0.25] * 4, abs=0.04)
    log_ratio = np.log(columns[small] / rows[small])
    assert (log_ratio.min(), log_ratio.max()) == pytest.approx((np.log(3 / 4), np.log(4 / 3)), abs=0.01)
    assert np.histogram(log_ratio, 4)[0] / small.sum() == pytest.approx([0.25] * 4, abs=0.04)
    for place, room in ((top[small], 10_000 - rows[small]), (left[small], 10_000 - columns[small])):
        assert np.mean(place / room) == pytest.approx(0.5, abs=0.03)


def test_the_last_place_is_reached() -> None:
    top, left, rows, columns = boxes(4, 4, count=500).T
    assert set(top[rows == 3]) == set(left[columns == 3]) == {0, 1}


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [(90, 900, (0, 390, 90, 120)), (900, 90, (390, 0, 120, 90)), (1, 1, (0, 0, 1, 1))],
)
def test_ten_misses_give_the_clamped_centre(height: int, width: int, box: tuple[int, ...]) -> None:
    crop = RandomResizedCrop(8, area=(5.0, 6.0), family="cv2-bilinear")  # five times the photo never fits
    assert crop.box(height, width, random_stream(0)) == box


def test_the_box_is_resized_in_the_family() -> None:
    crop = RandomResizedCrop(24, family="pillow-bicubic")
    top, left, rows, columns = crop.box(60, 90, random_stream(7))
    expected = resize(PHOTO[top : top + rows, left : left + columns], 24, 24, "pillow-bicubic")
    np.testing.assert_array_equal(crop(PHOTO, random_stream(7)), expected)


# --- the others ---


def test_resize() -> None:
    rng = random_stream(0)
    kept = Resize(40, keep_ratio=True, family="pillow-bilinear")(PHOTO, rng)
    np.testing.assert_array_equal(kept, resize_short(PHOTO, 40, "pillow-bilinear"))
    squeezed = Resize(40, keep_ratio=False, family="cv2-bilinear")(PHOTO, rng)
    np.testing.assert_array_equal(squeezed, resize(PHOTO, 40, 40, "cv2-bilinear"))


def test_scale_jitter_takes_every_size() -> None:
    jitter = ScaleJitter(5, 9, family="cv2-bilinear")
    sides = [jitter(PHOTO, random_stream(seed)).shape for seed in range(300)]
    assert {min(side[:2]) for side in sides} == {5, 6, 7, 8, 9}
    assert all(side[1] == side[0] * 90 // 60 for side in sides)


@pytest.mark.parametrize(
    "transform",
    [Resize(100, keep_ratio=True, family="cv2-bilinear"), ScaleJitter(100, 100, family="cv2-bilinear")],
)
def test_a_strip_does_not_fill_the_memory(transform: PhotoTransform) -> None:
    assert transform(np.zeros((1, 100_000, 3), np.uint8), random_stream(0)).shape == (100, 6400, 3)


def test_random_crop_takes_every_place() -> None:
    numbered = np.zeros((6, 5, 3), np.uint8)
    numbered[:, :, 0] = np.arange(30).reshape(6, 5)
    corners = set()
    for seed in range(300):
        found = RandomCrop(4)(numbered, random_stream(seed))
        assert found.shape == (4, 4, 3)
        top, left = divmod(int(found[0, 0, 0]), 5)
        np.testing.assert_array_equal(found, numbered[top : top + 4, left : left + 4])
        corners.add((top, left))
    assert corners == {(top, left) for top in range(3) for left in range(2)}
    with pytest.raises(AssertionError, match=r"a crop of 61 from 60 x 90 pixels: the recipe must resize"):
        RandomCrop(61)(PHOTO, random_stream(0))


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_flip(p: float) -> None:
    flipped = []
    for seed in range(500):
        found = HorizontalFlip(p)(PHOTO, random_stream(seed))
        mirrored = bool((found == PHOTO[:, ::-1]).all())
        assert mirrored or (found == PHOTO).all()
        flipped.append(mirrored)
    assert np.mean(flipped) == pytest.approx(p, abs=0.07)


def test_pca_lighting_shifts_all_pixels_along_the_principal_colours() -> None:
    gray = np.full((2, 3, 3), 128, np.uint8)
    shifts = np.array([PcaLighting(0.1)(gray, random_stream(seed))[0, 0].astype(int) - 128 for seed in range(3000)])
    assert shifts.mean(axis=0) == pytest.approx([0, 0, 0], abs=0.3)
    expected = EIGENVECTORS @ np.diag((0.1 * 255 * EIGENVALUES) ** 2) @ EIGENVECTORS.T
    np.testing.assert_allclose(np.cov(shifts.T), expected + np.eye(3) / 12, atol=0.7)  # 1/12 of the rounding
    np.testing.assert_allclose(EIGENVECTORS.T @ EIGENVECTORS, np.eye(3), atol=2e-3)


def test_pca_lighting_is_one_shift_limited_to_255() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 256, 3)
    for seed in range(20):
        found = PcaLighting(0.5)(ramp, random_stream(seed)).astype(int)
        shift = found[0, 128] - 128
        np.testing.assert_array_equal(found, np.clip(ramp + shift, 0, 255))
    np.testing.assert_array_equal(PcaLighting(0.0)(ramp, random_stream(0)), ramp)


def test_pad_crop_shows_every_place_of_the_padded_image() -> None:
    image = np.arange(1, 13, dtype=np.uint8).reshape(2, 2, 3)
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    windows = {padded[top : top + 2, left : left + 2].tobytes() for top in range(3) for left in range(3)}
    assert {PadCrop(2, 1)(image, random_stream(seed)).tobytes() for seed in range(200)} == windows
    mirrored = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="reflect")
    found = {PadCrop(4, 1, "reflect")(image, random_stream(seed)).tobytes() for seed in range(9)}
    assert found == {mirrored.tobytes()}


def test_erasing_changes_one_box_and_nothing_else() -> None:
    image = np.full((40, 60, 3), 7, np.uint8)
    areas, ratios = [], []
    for seed in range(2000):
        found = RandomErasing(1.0, color=(1, 2, 3))(image, random_stream(seed))
        rows, columns = np.nonzero((found != 7).any(2))
        top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
        assert (found[top:bottom, left:right] == [1, 2, 3]).all()
        areas.append((bottom - top) * (right - left) / 2400)
        ratios.append((bottom - top) / (right - left))
    assert 0.015 < min(areas) < 0.03
    assert 0.3 < max(areas) < 0.36
    assert np.mean(areas) == pytest.approx((0.02 + 1 / 3) / 2, abs=0.02)  # a few of the largest do not fit
    assert np.exp(np.mean(np.log(ratios))) == pytest.approx(1, abs=0.1)
    assert (image == 7).all()


def test_erasing_has_a_probability_and_noise() -> None:
    image = np.full((30, 30, 3), 7, np.uint8)
    found = [RandomErasing(0.3, (0.2, 0.4))(image, random_stream(seed)) for seed in range(500)]
    changed = [one for one in found if (one != image).any()]
    assert len(changed) / 500 == pytest.approx(0.3, abs=0.07)
    noise = np.concatenate([one[(one != 7).any(2)] for one in changed])
    assert noise.mean() == pytest.approx(127.5, abs=2)
    assert noise.min() == 0
    assert noise.max() == 255
    assert (RandomErasing(0.0)(image, random_stream(0)) == image).all()
    thin = np.zeros((1, 9, 3), np.uint8)  # no box is lower than one row
    np.testing.assert_array_equal(RandomErasing(1.0, color=(1, 1, 1))(thin, random_stream(0)), thin)
