"""TrivialAugment (arXiv 2103.10158), the wide version: one operation of fourteen, of a strength drawn evenly.

Operations, strengths and pixels are those of torchvision's TrivialAugmentWide on images of Pillow, which differ from
the operations of `randaugment.py`: nearest neighbours, black outside, Pillow's own enhancements.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps

from resnetkit.data.resize import Pixels

Fill = tuple[int, int, int]
Change = Callable[[Image.Image, float, Fill], Image.Image]
AFFINE, NEAREST = Image.Transform.AFFINE, Image.Resampling.NEAREST


def moved(matrix_of: Callable[[float], tuple[float, ...]]) -> Change:
    """Return an operation that fetches each pixel by a matrix (a, b, c, d, e, f): x from a x + b y + c, and so on."""
    return lambda image, strength, fill: image.transform(
        image.size, AFFINE, matrix_of(strength), NEAREST, fillcolor=fill
    )


def enhanced(enhancer: Callable[[Image.Image], ImageEnhance._Enhance]) -> Change:
    """Return an operation that blends an image with a plainer one."""
    return lambda image, strength, _: enhancer(image).enhance(1 + strength)


@dataclass(frozen=True)
class Op:
    """An operation, its strengths at both ends (None: it has none), and whether a coin turns the sign."""

    change: Change
    span: tuple[float, float] | None = None
    signed: bool = False


OPS = {
    "identity": Op(lambda image, _, __: image),
    "shear_x": Op(moved(lambda slope: (1, slope, 0, 0, 1, 0)), (0, 0.99), signed=True),
    "shear_y": Op(moved(lambda slope: (1, 0, 0, slope, 1, 0)), (0, 0.99), signed=True),
    "translate_x": Op(moved(lambda pixels: (1, 0, -int(pixels), 0, 1, 0)), (0, 32), signed=True),
    "translate_y": Op(moved(lambda pixels: (1, 0, 0, 0, 1, -int(pixels))), (0, 32), signed=True),
    "rotate": Op(lambda image, degrees, fill: image.rotate(degrees, NEAREST, fillcolor=fill), (0, 135), signed=True),
    "brightness": Op(enhanced(ImageEnhance.Brightness), (0, 0.99), signed=True),
    "color": Op(enhanced(ImageEnhance.Color), (0, 0.99), signed=True),
    "contrast": Op(enhanced(ImageEnhance.Contrast), (0, 0.99), signed=True),
    "sharpness": Op(enhanced(ImageEnhance.Sharpness), (0, 0.99), signed=True),
    "posterize": Op(lambda image, cut, _: ImageOps.posterize(image, 8 - round(cut)), (0, 6)),
    "solarize": Op(lambda image, threshold, _: ImageOps.solarize(image, math.ceil(threshold)), (255, 0)),
    "auto_contrast": Op(lambda image, _, __: ImageOps.autocontrast(image)),
    "equalize": Op(lambda image, _, __: ImageOps.equalize(image)),
}


@cache
def strengths(op: str, num_levels: int) -> tuple[float, ...]:
    """Return the strength of an operation at each level; 0 for one that has none.

    They are torch's own float32 numbers: a shift of 32 * 15 / 30 pixels is one of 15.999..., which is cut to 15.
    """
    span = OPS[op].span
    return tuple(torch.linspace(*span, num_levels).tolist()) if span else (0.0,) * num_levels


@dataclass(frozen=True)
class TrivialAugment:
    """Apply one operation, drawn evenly, at a level drawn evenly."""

    num_levels: int = 31
    fill: Fill = (0, 0, 0)  # RGB, where an image was moved away

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """Change uint8 [H, W, 3]."""
        names = tuple(OPS)
        name, level = names[rng.integers(len(names))], int(rng.integers(self.num_levels))
        negative = bool(rng.integers(2)) and OPS[name].signed
        strength = strengths(name, self.num_levels)[level] * (-1 if negative else 1)
        return np.asarray(OPS[name].change(Image.fromarray(np.ascontiguousarray(pixels)), strength, self.fill))
