from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from resnetkit.data.warp import Matrix, bicubic_weights, inverse, warp

FILL = (1, 2, 3)
PIXELS: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)


def shift(x: float, y: float) -> Matrix:
    return (1, 0, x, 0, 1, y)


@given(st.integers(-15, 15), st.integers(-15, 15))
def test_whole_pixels_are_moved_as_they_are(x: int, y: int) -> None:
    expected = np.empty_like(PIXELS)
    expected[:] = FILL
    height, width = PIXELS.shape[:2]
    if abs(x) < width and abs(y) < height:
        to = expected[max(y, 0) : height + min(y, 0), max(x, 0) : width + min(x, 0)]
        to[:] = PIXELS[max(-y, 0) : height + min(-y, 0), max(-x, 0) : width + min(-x, 0)]
    np.testing.assert_array_equal(warp(PIXELS, shift(x, y), FILL), expected)


def test_half_a_pixel_is_the_bicubic_of_four() -> None:
    row = PIXELS.astype(float)
    found = warp(PIXELS, shift(0.5, 0), FILL)
    # a = -0.75 at one half: (-3, 19, 19, -3) / 32
    expected = (19 * (row[:, 1:-2] + row[:, 2:-1]) - 3 * (row[:, :-3] + row[:, 3:])) / 32
    np.testing.assert_array_equal(found[:, 2:-1], np.clip(np.floor(expected + 0.5), 0, 255))


def test_places_are_rounded_to_a_32nd() -> None:
    near = warp(PIXELS, shift(0.5 + 1 / 100, 0), FILL)
    np.testing.assert_array_equal(near, warp(PIXELS, shift(0.5, 0), FILL))
    assert (near != warp(PIXELS, shift(0.5 + 1 / 30, 0), FILL)).any()


@pytest.mark.parametrize("far", [1e3, -1e3, 1e6])
def test_far_outside_is_fill(far: float) -> None:
    assert (warp(PIXELS, shift(far, 0), FILL) == FILL).all()
    assert (warp(PIXELS, shift(0, far), FILL) == FILL).all()


def test_a_quarter_turn_is_exact_in_the_middle() -> None:
    square = PIXELS[:, :9]
    turned = warp(square, (0, -1, 8, 1, 0, 0), FILL)  # x' = 8 - y, y' = x
    np.testing.assert_array_equal(turned, np.rot90(square, -1))


def test_weights_make_one_and_are_symmetric() -> None:
    weights = bicubic_weights()
    assert weights.shape == (16, 1024)
    assert (weights.sum(axis=0) == 1 << 15).all()
    grid = weights.reshape(4, 4, 32, 32)  # taps down and across; places down and across
    mirrored = grid[::-1, ::-1, 31:0:-1, 31:0:-1]
    assert np.abs(grid[:, :, 1:, 1:] - mirrored).max() <= 4  # what the rounding left over lies on one side


@given(st.lists(st.floats(-2, 2), min_size=6, max_size=6))
def test_the_inverse_leads_back(numbers: list[float]) -> None:
    a, b, x, c, d, y = numbers
    if abs(a * d - b * c) < 0.1:
        return
    matrix = np.array([[a, b, x], [c, d, y], [0, 0, 1]])
    back = np.vstack([np.reshape(inverse((a, b, x, c, d, y)), (2, 3)), [0, 0, 1]])
    np.testing.assert_allclose(back @ matrix, np.eye(3), atol=1e-9)
