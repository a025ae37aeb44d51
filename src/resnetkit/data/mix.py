"""Mixing the images of a micro-batch with a permutation of themselves, and their targets alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Mix:
    """One way of mixing, and how likely it is drawn."""

    kind: Literal["mixup", "cutmix"]
    alpha: float  # of Beta(alpha, alpha), which the share of the image itself is drawn from
    probability: float


def mixup(images: Tensor, targets: Tensor, *, share: float, order: Tensor) -> tuple[Tensor, Tensor]:
    """Blend images [N, C, H, W] and targets [N, classes] with those in `order` [N] (arXiv 1710.09412)."""
    return share * images + (1.0 - share) * images[order], share * targets + (1.0 - share) * targets[order]


def cutmix(
    images: Tensor, targets: Tensor, *, share: float, centre: tuple[int, int], order: Tensor
) -> tuple[Tensor, Tensor]:
    """Paste a box of the images in `order` [N] on images [N, C, H, W], targets [N, classes] by area (arXiv 1905.04899).

    The box has sides of sqrt(1 - share) of the image's, rounded down, around `centre` (row, column); what lies outside
    the image is cut off, and the true area counts for the targets.
    """
    height, width = images.shape[2:]
    (top, bottom), (left, right) = (
        cut_range(place, int(side * (1.0 - share) ** 0.5), side)
        for place, side in zip(centre, (height, width), strict=True)
    )
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images[order, :, top:bottom, left:right]
    kept = 1.0 - (bottom - top) * (right - left) / (height * width)
    return mixed, kept * targets + (1.0 - kept) * targets[order]


def cut_range(centre: int, length: int, side: int) -> tuple[int, int]:
    """Return the first and the end of a box's pixels along one side, inside the image."""
    first, end = centre - length // 2, centre + length // 2
    return min(max(first, 0), side), min(max(end, 0), side)


def mix(images: Tensor, targets: Tensor, mixes: Sequence[Mix], random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Mix images [N, C, H, W] and targets [N, classes] in one of the ways, or not at all, as `random` draws."""
    chance, bound = random.random(), 0.0
    for way in mixes:
        bound += way.probability
        if chance < bound:
            share = float(random.beta(way.alpha, way.alpha))
            order = torch.from_numpy(random.permutation(len(images))).to(images.device)
            if way.kind == "mixup":
                return mixup(images, targets, share=share, order=order)
            height, width = images.shape[2:]
            centre = int(random.integers(height)), int(random.integers(width))
            return cutmix(images, targets, share=share, centre=centre, order=order)
    return images, targets
