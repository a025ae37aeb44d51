"""Pixels and draws beside those of pictures.py and draws.py: odd sizes, the rows' own training crops, a tall strip.

All 200 photos; differences are in levels of 0 to 255, draws are tested as in draws.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import cv2
import draws
import numpy as np
from configs import read_config, recipe_of_1x
from draws import DRAWS, box_figures, chi_square, figure
from figures import Figure
from mmpretrain.registry import TRANSFORMS
from pictures import BACKENDS, EQUAL, Pixels, at_place, backend_name, compare, in_bgr, photos
from PIL import Image

from resnetkit.data.photo_transforms import RandomResizedCrop
from resnetkit.data.resize import PILLOW_FILTERS, resize
from resnetkit.data.transforms import random_stream
from resnetkit.feed import photo_transforms
from resnetkit.recipe import ResizeFamily

TALL_STRIP = (1200, 90)  # height and width: the centre that is taken where no box fits is as wide as the photo
RSB, CUB = "resnet50_8xb256-rsb-a1-600e_in1k", "resnet50_8xb8_cub"
CUB_SIDES = (600, 448)  # of the square that is cropped, and of the crop
LONGEST_SIDE = 700  # of odd sizes


def odd_resize_figures() -> Iterator[Figure]:
    """Compare each family's resizes to mmpretrain's square of 600, and of strips and parts to sizes of any ratio."""
    for family, (backend, interpolation) in BACKENDS.items():
        square = TRANSFORMS.build({"type": "Resize", "scale": 600, "backend": backend, "interpolation": interpolation})
        found = compare((resize(pixels, 600, 600, family), in_bgr(square, pixels)) for pixels in photos().values())
        yield from found.figures(f"resize, {family}", "both sides 600", "mmpretrain", EQUAL)
        found = compare(odd_pair(pixels, number, family) for number, pixels in enumerate(photos().values()))
        yield from found.figures(f"resize, {family}", "parts to odd sizes", backend_name(family), EQUAL)


def odd_pair(pixels: Pixels, number: int, family: ResizeFamily) -> tuple[Pixels, Pixels]:
    """Resize a part of random sides, from one pixel on, to random sides, by ours and by the library."""
    rng = random_stream(number)
    height, width = (int(rng.integers(1, side + 1)) for side in pixels.shape[:2])
    part = np.ascontiguousarray(pixels[:height, :width])
    new_height, new_width = (int(side) for side in rng.integers(1, LONGEST_SIDE + 1, 2))
    ours = resize(part, new_height, new_width, family)
    if family == "cv2-bilinear":
        return ours, np.asarray(cv2.resize(part, (new_width, new_height), interpolation=cv2.INTER_LINEAR), np.uint8)
    return ours, np.asarray(Image.fromarray(part).resize((new_width, new_height), PILLOW_FILTERS[family]))


def row_crop_figures() -> Iterator[Figure]:
    """Compare the training crops of an rsb row and of CUB-200, each side built of its own settings, at equal places."""
    for row, pair in ((RSB, rsb_pair), (CUB, cub_pair)):
        ours, theirs = photo_transforms(recipe_of_1x(row)), their_steps(row)
        found = compare(pair(ours, theirs, pixels, number) for number, pixels in enumerate(photos().values()))
        yield from found.figures("crop", f"training crop of {row}", "mmpretrain config", EQUAL)


def their_steps(row: str) -> list[Any]:
    """Build the steps between reading and packing of a config's training pipeline."""
    return [TRANSFORMS.build(step) for step in read_config(row)["train_dataloader"]["dataset"]["pipeline"][1:-1]]


def rsb_pair(ours: list[Any], theirs: list[Any], pixels: Pixels, number: int) -> tuple[Pixels, Pixels]:
    """Crop a random part and resize it by the first step of each side."""
    top, left, height, width = ours[0].box(pixels.shape[0], pixels.shape[1], random_stream(number))
    theirs[0].rand_crop_params = lambda image: (top, left, height, width)
    return ours[0](pixels, random_stream(number)), in_bgr(theirs[0], pixels)


def cub_pair(ours: list[Any], theirs: list[Any], pixels: Pixels, number: int) -> tuple[Pixels, Pixels]:
    """Squeeze to a square and crop it by the first two steps of each side."""
    rng = random_stream(number)
    top, left = int(rng.integers(153)), int(rng.integers(153))
    ours_cropped = ours[1](ours[0](pixels, random_stream(number)), random_stream(number))
    return ours_cropped, at_place(theirs[1], in_bgr(theirs[0], pixels), (top, left))


def odd_draw_figures(
    our_box: Callable[[int, int, np.random.Generator], Any] | None = None, count: int = DRAWS
) -> Iterator[Figure]:
    """Compare the distributions of resized crops of a tall strip, and of the places of CUB-200's crops."""
    np.random.seed(0)  # theirs draw from NumPy's one generator
    with patch.object(draws, "SIZES", (TALL_STRIP,)):
        yield from box_figures(our_box or RandomResizedCrop(224, family="cv2-bilinear").box, count)
    side, crop_side = CUB_SIDES
    numbers = np.arange(side, dtype=np.uint16)
    image = np.stack(np.broadcast_arrays(numbers[:, None], numbers, numbers[:1]), axis=2)  # [row, column, 0]
    ours, theirs = photo_transforms(recipe_of_1x(CUB))[1], their_steps(CUB)[1]
    rng = random_stream(4)
    our_corners = np.array([ours(image, rng)[0, 0, :2] for _ in range(count)])
    their_corners = np.array([theirs.rand_crop_params(image)[:2] for _ in range(count)])
    for axis, name in enumerate(("top", "left")):
        statistic = chi_square(our_corners[:, axis], their_corners[:, axis], side - crop_side + 1)
        yield figure(f"crop of {crop_side} from {side} x {side}: {name}", statistic)
