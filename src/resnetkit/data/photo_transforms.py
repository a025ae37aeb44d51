"""Random changes of one decoded photo, in the order a recipe names them.

Each takes uint8 [H, W, 3] RGB and the random numbers that belong to this photo in this epoch, and returns uint8;
it has no state.  The draws follow mmcls 0.23 (mmcls/datasets/pipelines/transforms.py) in their distributions.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Literal, Protocol

import numpy as np

from resnetkit.data.resize import Pixels, middle_of_strip, mirrored, resize, resize_short
from resnetkit.recipe import ResizeFamily

Box = tuple[int, int, int, int]  # top, left, height, width in pixels

BOX_TRIES = 10
# How the colours of ImageNet's training set vary: eigenvectors in columns and eigenvalues of RGB in [0, 1], as
# published with fb.resnet.torch (datasets/imagenet.lua); the method is AlexNet's, section 4.1.
EIGENVECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])


def draw_sides(
    pixels: int, area: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int]:
    """Draw height and width of a part of `pixels`: a share of them, and a ratio of width by height."""
    share = rng.uniform(*area) * pixels
    shape = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
    return round(math.sqrt(share / shape)), round(math.sqrt(share * shape))


class PhotoTransform(Protocol):
    """A change of one photo [H, W, 3] that may be random."""

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """Return the changed photo; `pixels` stays as it is."""


@dataclass(frozen=True)
class RandomResizedCrop:
    """Crop a part of random area and shape, and resize it to a square."""

    size: int  # pixels a side
    area: tuple[float, float] = (0.08, 1.0)  # share of the photo's area, uniform
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width by height, uniform in its logarithm
    _: KW_ONLY
    family: ResizeFamily

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """Change [H, W, 3] to [size, size, 3]."""
        top, left, height, width = self.box(pixels.shape[0], pixels.shape[1], rng)
        return resize(pixels[top : top + height, left : left + width], self.size, self.size, self.family)

    def box(self, height: int, width: int, rng: np.random.Generator) -> Box:
        """Draw the part to crop; after ten that do not fit, the largest centre of an allowed ratio."""
        for _ in range(BOX_TRIES):
            part_height, part_width = draw_sides(height * width, self.area, self.ratio, rng)
            if 0 < part_height <= height and 0 < part_width <= width:
                top, left = rng.integers(height - part_height + 1), rng.integers(width - part_width + 1)
                return int(top), int(left), part_height, part_width
        part_height = min(height, round(width / self.ratio[0]))
        part_width = min(width, round(height * self.ratio[1]))
        return (height - part_height) // 2, (width - part_width) // 2, part_height, part_width


@dataclass(frozen=True)
class Resize:
    """Resize the short side to `size`, or with keep_ratio False both sides."""

    size: int  # pixels
    keep_ratio: bool
    family: ResizeFamily

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """Change [H, W, 3]; nothing is random."""
        if self.keep_ratio:
            return resize_short(middle_of_strip(pixels), self.size, self.family)
        return resize(pixels, self.size, self.size, self.family)


@dataclass(frozen=True)
class ScaleJitter:
    """Resize the short side to a random whole number of pixels (arXiv 1512.03385, section 3.4: 256 to 480)."""

    min_size: int
    max_size: int  # included
    family: ResizeFamily

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """Change [H, W, 3]."""
        short = int(rng.integers(self.min_size, self.max_size + 1))
        return resize_short(middle_of_strip(pixels), short, self.family)


@dataclass(frozen=True)
class RandomCrop:
    """Crop a square at a random place; a resize comes before it in every recipe."""

    size: int  # pixels a side

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """Change [H, W, 3] to [size, size, 3]."""
        height, width = pixels.shape[:2]
        problem = f"a crop of {self.size} from {height} x {width} pixels: the recipe must resize before it crops"
        assert self.size <= min(height, width), problem
        top, left = rng.integers(height - self.size + 1), rng.integers(width - self.size + 1)
        return pixels[top : top + self.size, left : left + self.size]


@dataclass(frozen=True)
class PadCrop:
    """Pad each side and crop a square at a random place."""

    size: int  # pixels a side
    padding: int  # pixels a side
    mode: Literal["zero", "reflect"] = "zero"  # reflect: without repeating the edge

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """Change [H, W, 3] to [size, size, 3]."""
        widths = ((self.padding, self.padding), (self.padding, self.padding), (0, 0))
        padded = np.pad(pixels, widths, mode="constant" if self.mode == "zero" else "reflect")
        return RandomCrop(self.size)(padded, rng)


@dataclass(frozen=True)
class RandomErasing:
    """Put noise or one colour into a random box (arXiv 1708.04896)."""

    p: float = 0.25
    area: tuple[float, float] = (0.02, 1 / 3)  # share of the image's area, uniform
    ratio: tuple[float, float] = (3 / 10, 10 / 3)  # width by height, uniform in its logarithm
    color: tuple[int, ...] | None = None  # RGB; None: each value is drawn from 0..255

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """Change [H, W, 3] with probability p; where no box fits in ten tries, nothing is erased."""
        if rng.random() >= self.p:
            return pixels
        height, width = pixels.shape[:2]
        for _ in range(BOX_TRIES):
            box_height, box_width = draw_sides(height * width, self.area, self.ratio, rng)
            if 0 < box_height < height and 0 < box_width < width:
                top, left = rng.integers(height - box_height + 1), rng.integers(width - box_width + 1)
                shape = (box_height, box_width, 3)
                erased = pixels.copy()
                noise = (
                    rng.integers(0, 256, shape, np.uint8) if self.color is None else np.asarray(self.color, np.uint8)
                )
                erased[top : top + box_height, left : left + box_width] = noise
                return erased
        return pixels


@dataclass(frozen=True)
class HorizontalFlip:
    """Mirror left and right."""

    p: float = 0.5

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """Change [H, W, 3] with probability p."""
        return mirrored(pixels) if rng.random() < self.p else pixels


@dataclass(frozen=True)
class PcaLighting:
    """Shift all pixels along the principal colours of ImageNet: AlexNet's augmentation, the paper's "standard" one."""

    std: float = 0.1  # of the draw for each principal colour, times its eigenvalue

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """Change [H, W, 3], to the nearest of 0..255."""
        shift = EIGENVECTORS @ (rng.normal(0, self.std, 3) * EIGENVALUES) * 255  # RGB
        values = np.arange(256)[:, None] + shift
        table = np.clip(np.rint(values), 0, 255).astype(np.uint8)  # [256, 3]
        return np.stack([table[pixels[:, :, channel], channel] for channel in range(3)], axis=2)
