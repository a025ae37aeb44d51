from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torchvision.transforms import Compose, Normalize, ToTensor

from resnetkit.data.transforms import (
    Preprocess,
    ProgressiveCrop,
    RandomFlip,
    RandomPadCrop,
    mean_image,
    preprocess_from_json,
    random_stream,
)
from resnetkit.errors import DamagedFile
from resnetkit.recipes.cifar import MEAN, STD

Images = NDArray[Any]


def some_images(count: int, height: int = 6, width: int = 5, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)


# --- random streams ---


def test_a_stream_belongs_to_its_words() -> None:
    words = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 2), (2**63 - 1, 5, 3)]
    drawn = [tuple(random_stream(*of).integers(0, 2**60, 4).tolist()) for of in words]
    assert len(set(drawn)) == len(words)
    assert drawn == [tuple(random_stream(*of).integers(0, 2**60, 4).tolist()) for of in words]


def test_a_stream_is_the_same_for_ever() -> None:
    """A run resumed with a newer NumPy must go on as it began."""
    assert random_stream(0, 1, 2).integers(0, 1000, 5).tolist() == [836, 790, 884, 917, 205]
    assert random_stream(0, 1, 2).permutation(6).tolist() == [5, 4, 1, 3, 2, 0]
    assert random_stream(0, 1, 2).integers(0, 9, 6, np.uint8).tolist() == [8, 2, 0, 7, 0, 7]


# --- crop ---


def slow_pixel(image: Images, row: int, column: int, mode: str) -> Any:
    """Return a pixel of the endless padded image."""
    height, width = image.shape[:2]
    if mode == "zero":
        inside = 0 <= row < height and 0 <= column < width
        return image[row, column] if inside else np.zeros_like(image[0, 0])
    row, column = abs(row), abs(column)
    return image[min(row, 2 * (height - 1) - row), min(column, 2 * (width - 1) - column)]


@pytest.mark.parametrize("mode", ["zero", "reflect"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@given(padding=st.integers(0, 4), data=st.data())
def test_crop_equals_the_slow_crop(mode: str, dtype: type[Any], padding: int, data: st.DataObject) -> None:
    height, width = data.draw(st.integers(padding + 1, 7)), data.draw(st.integers(padding + 1, 7))
    images = some_images(2, height, width).astype(dtype)
    corner = st.integers(0, 2 * padding)
    draws = np.array([[data.draw(corner), data.draw(corner)] for _ in images], np.uint8)
    cropped = RandomPadCrop(padding, mode).apply(images, draws)
    assert cropped.dtype == dtype
    expected = np.array(
        [
            [
                [slow_pixel(image, r + top - padding, c + left - padding, mode) for c in range(width)]
                for r in range(height)
            ]
            for image, (top, left) in zip(images, draws.astype(int).tolist(), strict=True)
        ]
    )
    np.testing.assert_array_equal(cropped, expected)


def test_the_middle_crop_is_the_image() -> None:
    images = some_images(3)
    for mode in ("zero", "reflect"):
        same = RandomPadCrop(2, mode).apply(images, np.full((3, 2), 2, np.uint8))
        np.testing.assert_array_equal(same, images)


@pytest.mark.parametrize("padding", [0, 1, 4, 127])
def test_crops_are_drawn_evenly_over_all_places(padding: int) -> None:
    places = 2 * padding + 1
    draws = RandomPadCrop(padding, "zero").draw(seed=1, epoch=2, place=0, count=100 * places)
    assert draws.shape == (100 * places, 2)
    for column in draws.T:
        counts = np.bincount(column, minlength=places)
        assert len(counts) == places
        assert counts.min() > 40
        assert counts.max() < 180


# --- progressive crop ---


@given(data=st.data(), seed=st.integers(0, 99), epoch=st.integers(0, 7))
def test_a_progressive_crop_is_a_part_of_each_image(data: st.DataObject, seed: int, epoch: int) -> None:
    height, width = data.draw(st.integers(3, 8)), data.draw(st.integers(3, 8))
    crop = ProgressiveCrop(sizes=(2, 3), until_epochs=(2, 5))
    images = np.arange(5 * height * width * 3, dtype=np.int64).reshape(5, height, width, 3)  # all values differ
    parts = crop.apply(images, crop.draw(seed, epoch, 0, len(images)))
    if epoch >= 5:
        assert parts is images
        return
    side = 2 if epoch < 2 else 3
    assert parts.shape == (5, side, side, 3)
    for image, part in zip(images, parts, strict=True):
        ((top, left),) = np.argwhere(image[..., 0] == part[0, 0, 0])
        np.testing.assert_array_equal(part, image[top : top + side, left : left + side])


def test_progressive_crops_are_drawn_evenly_over_all_places() -> None:
    crop = ProgressiveCrop(sizes=(3,), until_epochs=(1,))
    images = np.arange(36).reshape(1, 6, 6, 1).repeat(16_000, axis=0)
    corners = crop.apply(images, crop.draw(1, 0, 0, len(images)))[:, 0, 0, 0]
    places, counts = np.unique(corners, return_counts=True)
    assert places.tolist() == [6 * row + column for row in range(4) for column in range(4)]
    assert counts.min() > 850 and counts.max() < 1150


# --- flip ---


@given(count=st.integers(1, 8), seed=st.integers(0, 99))
def test_flipping_twice_is_the_identity(count: int, seed: int) -> None:
    images, flip = some_images(count, seed=seed), RandomFlip(alternating=False)
    draws = flip.draw(seed, 0, 0, count)
    once = flip.apply(images, draws)
    for image, flipped, drawn in zip(images, once, draws, strict=True):
        np.testing.assert_array_equal(flipped, image[:, ::-1] if drawn else image)
    np.testing.assert_array_equal(flip.apply(once, draws), images)


def test_flip_keeps_the_type() -> None:
    images = some_images(4).astype(np.float32)
    assert RandomFlip(False).apply(images, np.array([True, False, True, False])).dtype == np.float32


@given(seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 300), place=st.integers(0, 3))
def test_alternating_flip_alternates(seed: int, epoch: int, place: int) -> None:
    flip = RandomFlip(alternating=True)
    now, after, later = (flip.draw(seed, at, place, 50) for at in (epoch, epoch + 1, epoch + 2))
    np.testing.assert_array_equal(now, ~after)
    np.testing.assert_array_equal(now, later)
    assert now.dtype == bool


@pytest.mark.parametrize("alternating", [False, True])
def test_half_of_the_images_are_flipped(alternating: bool) -> None:
    draws = [RandomFlip(alternating).draw(3, epoch, 1, 4000) for epoch in range(2)]
    assert all(1850 < drawn.sum() < 2150 for drawn in draws)
    same = (draws[0] == draws[1]).mean()
    assert same == 0 if alternating else 0.45 < same < 0.55


@pytest.mark.parametrize("augmentation", [RandomPadCrop(4, "zero"), RandomFlip(False), ProgressiveCrop((4,), (2,))])
def test_draws_differ_by_seed_epoch_and_place_only(augmentation: RandomPadCrop | RandomFlip | ProgressiveCrop) -> None:
    words = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    drawn = [augmentation.draw(*of, 64).tobytes() for of in words]
    assert len(set(drawn)) == 4
    assert drawn == [augmentation.draw(*of, 64).tobytes() for of in words]


# --- preprocess ---


def test_normalize_equals_torchvision_bit_for_bit() -> None:
    every_value = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    images = np.concatenate([every_value, some_images(3, 16, 16)])
    theirs = Compose([ToTensor(), Normalize(MEAN, STD)])
    ours = Preprocess(16, np.array(MEAN, np.float32), np.array(STD, np.float32)).normalize(torch.from_numpy(images))
    assert torch.equal(ours, torch.stack([theirs(image) for image in images]))


def test_normalize_gives_channels_last_memory_and_leaves_its_input() -> None:
    images = torch.from_numpy(some_images(2))
    before = images.clone()
    normalized = Preprocess(6, np.zeros(3, np.float32), np.ones(3, np.float32)).normalize(images)
    assert normalized.shape == (2, 3, 6, 5)
    assert normalized.dtype == torch.float32
    assert normalized.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, before)


def test_a_mean_image_is_subtracted_pixel_by_pixel() -> None:
    images = some_images(4)
    mean = mean_image([images])
    normalized = Preprocess(6, mean, np.ones(3, np.float32)).normalize(torch.from_numpy(images))
    expected = (images / 255 - mean).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(normalized.numpy(), expected, atol=1e-6)
    assert abs(float(normalized.mean())) < 1e-6


@given(count=st.integers(1, 12), chunk=st.integers(1, 15))
def test_mean_image_equals_the_float64_mean(count: int, chunk: int) -> None:
    images = some_images(count, 2, 2)
    mean = mean_image(images[start : start + chunk] for start in range(0, count, chunk))
    assert mean.dtype == np.float32
    np.testing.assert_allclose(mean, (images.astype(np.float64) / 255).mean(0), rtol=6e-8)


def test_mean_image_of_white_is_one() -> None:
    assert (mean_image([np.full((7, 2, 2, 3), 255, np.uint8)]) == 1).all()


@pytest.mark.parametrize("shape", [(3,), (4, 4, 3)])
@pytest.mark.parametrize("resize_size", [None, 256])
def test_preprocess_survives_json_to_the_bit(shape: tuple[int, ...], resize_size: int | None) -> None:
    rng = np.random.default_rng(0)
    constants = rng.random(shape, np.float32), rng.random(3, np.float32)
    preprocess = Preprocess(4, *constants, resize_size, family="cv2-bilinear", keep_ratio=False)
    again = preprocess_from_json(json.loads(json.dumps(preprocess.to_json())))
    assert (again.image_size, again.resize_size, again.family, again.keep_ratio) == (
        *(4, resize_size, "cv2-bilinear", False),
    )
    with pytest.raises(DamagedFile, match="an unknown way\n  got 'nearest'"):
        preprocess_from_json(preprocess.to_json() | {"family": "nearest"})
    for ours, theirs in ((again.mean, preprocess.mean), (again.std, preprocess.std)):
        assert ours.dtype == np.float32
        assert ours.shape == theirs.shape
        assert ours.tobytes() == theirs.tobytes()
