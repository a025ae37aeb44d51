"""Moving the pixels of one image by a matrix, with OpenCV's bicubic and without OpenCV.

`cv2.warpAffine` knows places in 1/32 pixel and weights in 1/32768 (modules/imgproc/src/imgwarp.cpp, versions 4.5 to
4.14); the same whole numbers here give the same bytes.  Its bicubic has a = -0.75, where Pillow's has -0.5.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.resize import Pixels

Fill = tuple[int, ...]  # RGB of what comes in from outside
Matrix = tuple[float, float, float, float, float, float]  # x' = m0 x + m1 y + m2, y' = m3 x + m4 y + m5, in pixels

STEPS = 32  # places in a pixel
ONE = 1 << 15
MARGIN = 4  # pixels of fill around the image, as many as a bicubic looks at


def warp(pixels: Pixels, matrix: Matrix, fill: Fill) -> Pixels:
    """Move uint8 [H, W, 3] by a matrix, as `cv2.warpAffine(..., INTER_CUBIC)` with a border of `fill`."""
    height, width = pixels.shape[:2]
    x, y = sources(inverse(matrix), height, width)  # [H, W] in 1/32 pixel
    padded = np.empty((height + 2 * MARGIN, width + 2 * MARGIN, 3), np.uint8)
    padded[:] = fill
    padded[MARGIN:-MARGIN, MARGIN:-MARGIN] = pixels
    # The first of the 4 x 4 pixels around each place; from beyond the margin all 16 are fill.
    left = np.clip((x >> 5) - 1, -MARGIN, width) + MARGIN
    top = np.clip((y >> 5) - 1, -MARGIN, height) + MARGIN
    first = (top * padded.shape[1] + left).ravel()
    place = ((y & 31) * STEPS + (x & 31)).ravel()  # in the pixel
    used = np.bincount(place, minlength=STEPS * STEPS) > 0
    total = np.full((height * width, 3), ONE // 2, np.int32)
    for tap, weights in enumerate(bicubic_weights()):
        if weights[used].any():  # a shear or a shift needs four or five of the 16
            values = padded.reshape(-1, 3)[first + (tap // 4 * padded.shape[1] + tap % 4)]
            total += values * weights[place][:, None]
    return np.asarray(np.clip(total >> 15, 0, 255), np.uint8).reshape(height, width, 3)


def sources(back: Matrix, height: int, width: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return where each pixel [H, W] comes from, x and y in 1/32 pixel; columns and rows are rounded apart."""
    columns, rows = np.arange(width), np.arange(height)[:, None]
    places = []
    for by_x, by_y, shift in (back[:3], back[3:]):
        along = np.rint(by_x * columns * 1024).astype(np.intp)
        down = np.rint((by_y * rows + shift) * 1024).astype(np.intp)
        places.append(down + along + 16 >> 5)
    return places[0], places[1]


def inverse(matrix: Matrix) -> Matrix:
    """Return the matrix that leads back."""
    a, b, shift_x, c, d, shift_y = matrix
    scale = 1 / (a * d - b * c)
    a, b, c, d = d * scale, -b * scale, -c * scale, a * scale
    return a, b, -a * shift_x - b * shift_y, c, d, -c * shift_x - d * shift_y


@cache
def bicubic_weights() -> NDArray[np.int32]:
    """Return the weights of the 4 x 4 pixels at each place in a pixel: int32 [16, 32 * 32], in 1/32768."""
    share = (np.arange(STEPS) / STEPS).astype(np.float32)
    beyond, rest = share + 1, 1 - share
    near = (1.25 * share - 2.25) * share * share + 1
    far = (1.25 * rest - 2.25) * rest * rest + 1
    outer = ((-0.75 * beyond + 3.75) * beyond - 6) * beyond + 3
    line = np.stack((outer, near, far, 1 - outer - near - far), axis=1).astype(np.float32)  # [32, 4]
    grid = line[:, None, :, None] * line[None, :, None, :]  # [32 down, 32 across, 4, 4]
    weights = np.rint(grid.reshape(-1, 16) * ONE).clip(max=ONE - 1).astype(np.int32)
    # Rounding leaves sums beside 1: the largest of the four lower right pixels takes what is missing, the
    # smallest what is over.
    missing = ONE - weights.sum(axis=1)
    corner = np.array([10, 11, 14, 15])
    largest, smallest = (corner[pick(weights[:, corner], axis=1)] for pick in (np.argmax, np.argmin))
    weights[np.arange(len(weights)), np.where(missing > 0, largest, smallest)] += missing
    return np.ascontiguousarray(weights.T)
