"""RandAugment (arXiv 1909.13719) as the page's rsb rows use it: 15 operations, stronger with the level.

The operations are those of mmcls 0.23 over mmcv (mmcls/datasets/pipelines/auto_augment.py; mmcv/image/photometric.py
and geometric.py), which differ from Pillow's: contrast and brightness cut fractions off, sharpness also changes
the edges, and pixels are moved by OpenCV's bicubic.  The bytes are those that mmcv gives over OpenCV up to 4.13; 4.14
rounds contrast and sharpness otherwise, by a level of 255, and 5.0 moves pixels without rounding their places, by up
to 6 (docs/parity.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.resize import Pixels
from resnetkit.data.warp import Fill, warp

Table = NDArray[np.uint8]  # [256]: the new value of each old one

MAX_LEVEL = 10


# --- colours: a table of values, one for all channels or one a channel ---


def auto_contrast(pixels: Pixels, _magnitude: float, _fill: Fill) -> Pixels:
    """Stretch each channel to 0..255."""
    return by_channel(pixels, stretched)


def equalize(pixels: Pixels, _magnitude: float, _fill: Fill) -> Pixels:
    """Make the values of each channel about equally frequent."""
    return by_channel(pixels, equalized)


def invert(pixels: Pixels, _magnitude: float, _fill: Fill) -> Pixels:
    """Turn each value v into 255 - v."""
    return 255 - pixels


def posterize(pixels: Pixels, bits: float, _fill: Fill) -> Pixels:
    """Keep the highest `bits` of each value; 0 bits are black."""
    return pixels & np.uint8(0xFF00 >> int(bits) & 0xFF)


def solarize(pixels: Pixels, threshold: float, _fill: Fill) -> Pixels:
    """Invert what is not below the threshold."""
    values = np.arange(256)
    return np.where(values < threshold, values, 255 - values).astype(np.uint8)[pixels]


def solarize_add(pixels: Pixels, amount: float, _fill: Fill) -> Pixels:
    """Add to what is below 128, up to 255."""
    values = np.arange(256)
    return np.where(values < 128, np.minimum(values + amount, 255), values).astype(np.uint8)[pixels]


def brightness(pixels: Pixels, change: float, _fill: Fill) -> Pixels:
    """Multiply by 1 + change, towards or away from black; fractions are cut off."""
    return cut_off(blend(np.arange(256), np.zeros(256), 1 + change))[pixels]


def contrast(pixels: Pixels, change: float, _fill: Fill) -> Pixels:
    """Multiply the distance from the mean gray by 1 + change; fractions are cut off."""
    gray = gray_of(pixels)
    mean = np.full(256, round(int(gray.sum()) / gray.size))
    return cut_off(blend(np.arange(256), mean, 1 + change))[pixels]


def color(pixels: Pixels, change: float, _fill: Fill) -> Pixels:
    """Multiply the distance from the pixel's own gray by 1 + change; to the nearest."""
    gray = gray_of(pixels)[:, :, None] * np.float32(-change)
    # OpenCV blends whole numbers in float32 with one rounding a pixel: products of float32 are exact in float64.
    blended = pixels * np.float64(np.float32(1 + change)) + gray
    return np.clip(np.rint(blended.astype(np.float32)), 0, 255).astype(np.uint8)


def sharpness(pixels: Pixels, change: float, _fill: Fill) -> Pixels:
    """Multiply the distance from a smoothed image by 1 + change; fractions are cut off."""
    return cut_off(blend(pixels, smooth(pixels), 1 + change))


def by_channel(pixels: Pixels, table_of: Callable[[NDArray[np.intp]], Table]) -> Pixels:
    """Give each channel of [H, W, 3] the table that belongs to its histogram [256]."""
    channels = [pixels[:, :, channel] for channel in range(3)]
    return np.stack([table_of(np.bincount(plane.ravel(), minlength=256))[plane] for plane in channels], axis=2)


def stretched(histogram: NDArray[np.intp]) -> Table:
    """Return the table that makes the lowest value 0 and the highest 255; fractions are cut off."""
    present = np.flatnonzero(histogram)
    low, high = int(present[0]), int(present[-1])
    if low == high:
        return np.arange(256, dtype=np.uint8)
    scale = 255 / (high - low)
    return cut_off(np.arange(256) * scale - low * scale)


def equalized(histogram: NDArray[np.intp]) -> Table:
    """Return the table that gives each value the share of the pixels below it, in 255 steps."""
    present = histogram[histogram > 0]
    step = int(present.sum() - present[-1]) // 255
    if step == 0:
        return np.arange(256, dtype=np.uint8)
    below = np.concatenate(([0], ((np.cumsum(histogram) + step // 2) // step)[:-1]))
    return np.minimum(below, 255).astype(np.uint8)


def gray_of(pixels: Pixels) -> Pixels:
    """Return the gray [H, W] of RGB [H, W, 3]: .299 R + .587 G + .114 B in 1/32768, as OpenCV."""
    red, green, blue = (pixels[:, :, channel].astype(np.int32) for channel in range(3))
    return np.asarray((red * 9798 + green * 19235 + blue * 3735 + (1 << 14)) >> 15, np.uint8)


def smooth(pixels: Pixels) -> Pixels:
    """Average each pixel, counted five times, with its eight neighbours; beyond the edge the image is mirrored."""
    height, width = pixels.shape[:2]
    padded = np.pad(pixels, ((1, 1), (1, 1), (0, 0)), mode="reflect").astype(np.int32)
    sums = 4 * pixels.astype(np.int32)
    for top in range(3):
        for left in range(3):
            sums += padded[top : top + height, left : left + width]
    return np.asarray((2 * sums + 13) // 26, np.uint8)


def blend(values: NDArray[Any], others: NDArray[Any], share: float) -> NDArray[np.float32]:
    """Return share * values + (1 - share) * others in float32: added as float64, as OpenCV 4 does (5 does not)."""
    return (values * np.float64(share) + others * np.float64(1 - share)).astype(np.float32)


def cut_off(values: NDArray[np.floating]) -> Pixels:
    """Turn numbers into uint8: limited to 0..255, without their fractions."""
    return np.asarray(np.clip(values, 0, 255).astype(np.uint8))


# --- places: a matrix from old to new places ---


def rotate(pixels: Pixels, degrees: float, fill: Fill) -> Pixels:
    """Turn clockwise about the centre."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(-degrees))
    x, y = (pixels.shape[1] - 1) * 0.5, (pixels.shape[0] - 1) * 0.5
    return warp(pixels, (cos, sin, (1 - cos) * x - sin * y, -sin, cos, sin * x + (1 - cos) * y), fill)


def shear_x(pixels: Pixels, slope: float, fill: Fill) -> Pixels:
    """Move each row to the right by `slope` times its distance from the top."""
    return warp(pixels, (1, float(np.float32(slope)), 0, 0, 1, 0), fill)


def shear_y(pixels: Pixels, slope: float, fill: Fill) -> Pixels:
    """Move each column down by `slope` times its distance from the left."""
    return warp(pixels, (1, 0, 0, float(np.float32(slope)), 1, 0), fill)


def translate_x(pixels: Pixels, share: float, fill: Fill) -> Pixels:
    """Move to the right by a share of the width."""
    return warp(pixels, (1, 0, float(np.float32(share * pixels.shape[1])), 0, 1, 0), fill)


def translate_y(pixels: Pixels, share: float, fill: Fill) -> Pixels:
    """Move down by a share of the height."""
    return warp(pixels, (1, 0, 0, 0, 1, float(np.float32(share * pixels.shape[0]))), fill)


# --- the page's table ---


@dataclass(frozen=True)
class Op:
    """An operation, its magnitude at levels 0 and 10 (None: it has none), and whether a coin turns the sign."""

    change: Callable[[Pixels, float, Fill], Pixels]
    span: tuple[float, float] | None = None
    signed: bool = False


OPS = {
    "auto_contrast": Op(auto_contrast),
    "equalize": Op(equalize),
    "invert": Op(invert),
    "rotate": Op(rotate, (0, 30), signed=True),  # degrees
    "posterize": Op(posterize, (4, 0)),  # bits, rounded up
    "solarize": Op(solarize, (256, 0)),  # threshold
    "solarize_add": Op(solarize_add, (0, 110)),  # added to values below 128
    "color": Op(color, (0, 0.9), signed=True),  # the factor is 1 + magnitude, here and in the next three
    "contrast": Op(contrast, (0, 0.9), signed=True),
    "brightness": Op(brightness, (0, 0.9), signed=True),
    "sharpness": Op(sharpness, (0, 0.9), signed=True),
    "shear_x": Op(shear_x, (0, 0.3), signed=True),  # pixels a pixel
    "shear_y": Op(shear_y, (0, 0.3), signed=True),
    "translate_x": Op(translate_x, (0, 0.45), signed=True),  # share of the side
    "translate_y": Op(translate_y, (0, 0.45), signed=True),
}


def magnitude_of(op: str, level: float) -> float:
    """Return the magnitude of an operation at a level from 0 to 10; 0 for one that has none."""
    span = OPS[op].span
    if span is None:
        return 0.0
    magnitude = level / MAX_LEVEL * (span[1] - span[0]) + span[0]
    return math.ceil(magnitude) if op == "posterize" else magnitude


@dataclass(frozen=True)
class RandAugment:
    """Apply `num_ops` operations drawn with replacement, each with probability one half."""

    num_ops: int = 2
    level: float = 7.0  # of 10
    level_std: float = 0.5  # each operation draws its level from a normal distribution, limited to 0..10
    fill: Fill = (124, 116, 104)  # the mean of ImageNet, rounded

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """Change uint8 [H, W, 3]."""
        names = tuple(OPS)
        for _ in range(self.num_ops):
            name = names[rng.integers(len(names))]
            level = min(max(rng.normal(self.level, self.level_std), 0), MAX_LEVEL)
            fires, negative = rng.random(2) < 0.5
            if fires:
                sign = -1 if negative and OPS[name].signed else 1
                pixels = OPS[name].change(pixels, sign * magnitude_of(name, level), self.fill)
        return pixels
