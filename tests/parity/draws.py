"""Random crops, flips and operations: their distributions against mmpretrain's.

Each test is at level 0.001: a Kolmogorov-Smirnov test of two samples for what is continuous, a chi-square test of
homogeneity for what is counted.  The error is the test's statistic over its critical value, so that above 1 the two
distributions are not the same.  Draws are those of fixed seeds: the outcome is always the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from figures import Figure
from mmpretrain.registry import TRANSFORMS
from numpy.typing import NDArray
from pictures import FILL_BGR

from resnetkit.data import randaugment
from resnetkit.data.photo_transforms import HorizontalFlip, PadCrop, RandomCrop, RandomResizedCrop
from resnetkit.data.randaugment import OPS, RandAugment
from resnetkit.data.transforms import RandomFlip, RandomPadCrop, random_stream

LEVEL, DRAWS = 0.001, 20_000
SIZES = ((375, 500), (500, 333), (90, 1200))  # height and width: usual photos, and a strip that few boxes fit
BOX_PARTS = ("area", "ratio", "top", "left")
Numbers = NDArray[Any]


def kolmogorov_smirnov(ours: Numbers, theirs: Numbers) -> float:
    """Return the largest distance of two empirical distributions, over its critical value."""
    both = np.sort(np.concatenate((ours, theirs)))
    distance = np.abs(
        np.searchsorted(np.sort(ours), both, "right") / len(ours)
        - np.searchsorted(np.sort(theirs), both, "right") / len(theirs)
    ).max()
    critical = math.sqrt(-math.log(LEVEL / 2) / 2 * (1 / len(ours) + 1 / len(theirs)))
    return float(distance / critical)


def chi_square(ours: Numbers, theirs: Numbers, cells: int) -> float:
    """Return the chi-square statistic of two samples of cell numbers, over its critical value."""
    table = np.stack([np.bincount(np.asarray(sample, np.int64), minlength=cells) for sample in (ours, theirs)])
    table = table[:, table.sum(0) > 0]
    expected = table.sum(0) * table.sum(1, keepdims=True) / table.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    return statistic / critical_chi_square(table.shape[1] - 1)


def critical_chi_square(freedom: int) -> float:
    """Return the value that chi-square of so many degrees exceeds with probability LEVEL, by bisection."""
    low, high = 0.0, 10.0 * freedom + 100.0
    half = torch.tensor(freedom / 2, dtype=torch.float64)
    while high - low > 1e-6:
        middle = (low + high) / 2
        above = float(torch.special.gammaincc(half, torch.tensor(middle / 2, dtype=torch.float64)))
        low, high = (middle, high) if above > LEVEL else (low, middle)
    return high


def draw_figures(
    our_box: Callable[[int, int, np.random.Generator], Any] | None = None, draws: int = DRAWS
) -> Iterator[Figure]:
    """Compare the distributions of all that is drawn."""
    np.random.seed(0)  # theirs draw from NumPy's one generator
    yield from box_figures(our_box or RandomResizedCrop(224, family="cv2-bilinear").box, draws)
    yield from place_figures(draws)
    yield from flip_figures(draws)
    yield from augment_figures(draws)


def figure(subject: str, error: float) -> Figure:
    """Return the figure of one test."""
    return Figure("draws, statistic over critical", subject, "mmpretrain", error, 1.0)


def box_figures(our_box: Callable[[int, int, np.random.Generator], Any], draws: int) -> Iterator[Figure]:
    """Compare area, ratio and place of random resized crops."""
    theirs = TRANSFORMS.build({"type": "RandomResizedCrop", "scale": 224})
    for height, width in SIZES:
        image = np.empty((height, width, 3), np.uint8)
        rng = random_stream(height)
        ours_boxes = np.array([our_box(height, width, rng) for _ in range(draws)], float)
        their_boxes = np.array([theirs.rand_crop_params(image) for _ in range(draws)], float)
        for name, ours_of, theirs_of in zip(BOX_PARTS, box_parts(ours_boxes), box_parts(their_boxes), strict=True):
            yield figure(f"resized crop of {height} x {width}: {name}", kolmogorov_smirnov(ours_of, theirs_of))


def box_parts(boxes: Numbers) -> tuple[Numbers, ...]:
    """Return area, ratio of sides, top and left of boxes [n, (top, left, height, width)]."""
    top, left, height, width = boxes.T
    return height * width, width / height, top, left


def place_figures(draws: int) -> Iterator[Figure]:
    """Compare the places of random crops, of a padded small image and of a large one."""
    small, large = numbered(40, 40), numbered(60, 52)
    padded = TRANSFORMS.build({"type": "RandomCrop", "crop_size": 32})
    theirs = places(lambda: padded.rand_crop_params(small)[:2], draws, 9)
    batch = RandomPadCrop(4, "zero").draw(0, 0, 0, draws).astype(np.int64)
    yield figure("crop of 32 padded by 4, a batch", chi_square(batch[:, 0] * 9 + batch[:, 1], theirs, 81))
    rng = random_stream(1)
    inside = numbered(32, 32)
    ours = places(lambda: corner(PadCrop(32, 4)(inside, rng)), draws, 9)
    yield figure("crop of 32 padded by 4, one by one", chi_square(ours, theirs, 81))
    crop = TRANSFORMS.build({"type": "RandomCrop", "crop_size": 45})
    theirs = places(lambda: crop.rand_crop_params(large)[:2], draws, 8)
    ours = places(lambda: first_of(RandomCrop(45)(large, rng), large), draws, 8)
    yield figure("crop of 45 from 60 x 52", chi_square(ours, theirs, 16 * 8))


def numbered(height: int, width: int) -> NDArray[np.uint8]:
    """Return an image that names each of its pixels, counted from 1, in two channels."""
    number = np.arange(1, height * width + 1).reshape(height, width)
    return np.stack((number // 256, number % 256, np.zeros_like(number)), axis=2).astype(np.uint8)


def corner(crop: NDArray[np.uint8]) -> tuple[int, int]:
    """Return the place of a crop of a padded `numbered(32, 32)`: where its centre pixel comes from."""
    number = int(crop[16, 16, 0]) * 256 + int(crop[16, 16, 1]) - 1
    return number // 32 - 12, number % 32 - 12


def first_of(crop: NDArray[np.uint8], image: NDArray[np.uint8]) -> tuple[int, int]:
    """Return the place of a crop of a numbered image."""
    number = int(crop[0, 0, 0]) * 256 + int(crop[0, 0, 1]) - 1
    return number // image.shape[1], number % image.shape[1]


def places(draw: Callable[[], tuple[int, int]], draws: int, columns: int) -> Numbers:
    """Return the numbers of drawn places."""
    return np.array([top * columns + left for top, left in (draw() for _ in range(draws))])


def flip_figures(draws: int) -> Iterator[Figure]:
    """Compare how often an image is mirrored."""
    theirs = TRANSFORMS.build({"type": "RandomFlip", "prob": 0.5, "direction": "horizontal"})
    marked = np.array([[[0] * 3, [1] * 3]], np.uint8)
    their_flips = np.array([theirs({"img": marked})["img"][0, 0, 0] for _ in range(draws)])
    yield figure("flip, a batch", chi_square(RandomFlip(alternating=False).draw(0, 0, 0, draws), their_flips, 2))
    rng = random_stream(2)
    ours = np.array([HorizontalFlip()(marked, rng)[0, 0, 0] for _ in range(draws)])
    yield figure("flip, one by one", chi_square(ours, their_flips, 2))


def augment_figures(draws: int) -> Iterator[Figure]:
    """Compare which operations RandAugment fires, how many of two, how strong, and with which sign."""
    ours, theirs = our_operations(draws), their_operations(draws)
    cells = len(OPS) + 1
    fired = [np.array([op for each in side for op, _ in each]) for side in (ours, theirs)]
    yield figure("RandAugment: operations", chi_square(fired[0], fired[1], cells))
    counts = [np.array([len(each) for each in side]) for side in (ours, theirs)]
    yield figure("RandAugment: how many fire", chi_square(counts[0], counts[1], 3))
    for place, (name, op) in enumerate(OPS.items()):
        if op.span is None:
            continue
        pair = [np.array([strength for each in side for number, strength in each if number == place])
                for side in (ours, theirs)]  # fmt: skip
        yield figure(f"RandAugment: strength of {name}", kolmogorov_smirnov(pair[0], pair[1]))


def our_operations(draws: int) -> list[list[tuple[int, float]]]:
    """Return number and strength of the operations that fire, call by call."""
    fired: list[tuple[int, float]] = []

    def recording(place: int, op: randaugment.Op) -> randaugment.Op:
        def change(pixels: Any, strength: float, fill: Any) -> Any:
            fired.append((place, strength))
            return pixels

        return randaugment.Op(change, op.span, op.signed)

    recorders = {name: recording(place, op) for place, (name, op) in enumerate(OPS.items())}
    rng, found = random_stream(3), []
    with patch.object(randaugment, "OPS", recorders):
        for _ in range(draws):
            fired.clear()
            RandAugment()(np.zeros((1, 1, 3), np.uint8), rng)
            found.append(list(fired))
    return found


def their_operations(draws: int) -> list[list[tuple[int, float]]]:
    """Return the same of mmpretrain's RandAugment, by the steps that its operations draw in."""
    theirs = TRANSFORMS.build({"type": "RandAugment", "policies": "timm_increasing", "num_policies": 2,
                               "magnitude_level": 7, "magnitude_std": 0.5, "total_level": 10,
                               "hparams": {"pad_val": FILL_BGR, "interpolation": "bicubic"}})  # fmt: skip
    found = []
    for _ in range(draws):
        fired = []
        for place in theirs.random_policy_indices():
            transform = theirs.transforms[place]
            if transform.random_disable():
                continue
            strength = 0.0
            if transform.magnitude_range is not None:
                strength = transform.random_negative(transform.random_magnitude())
            name = tuple(OPS)[place]
            fired.append((place, float(math.ceil(strength)) if name == "posterize" else strength))
        found.append(fired)
    return found
