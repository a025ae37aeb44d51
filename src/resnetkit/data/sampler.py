"""Which images an epoch shows, and in what order: pure functions of seed and epoch."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.transforms import random_stream

ORDER = 1_000_000  # the random stream of the order; augmentations have their place in the recipe


def epoch_order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """Return all of `count` images once, in the order of an epoch: int64 [count]."""
    return random_stream(seed, epoch, ORDER).permutation(count)


def repeated_order(permutation: NDArray[np.int64], *, repeats: int, devices: int, round_to: int) -> NDArray[np.int64]:
    """Return each image of a permutation [N] `repeats` times in a row, cut to `repeated_length` (arXiv 1902.05509).

    Device r takes every `devices`-th from the r-th on, `result[r::devices]`, so that the copies of an image go to
    different devices.
    """
    length = repeated_length(len(permutation), devices=devices, round_to=round_to)
    return np.resize(np.repeat(permutation[: math.ceil(length / repeats)], repeats), length)


def repeated_length(count: int, *, devices: int, round_to: int) -> int:
    """Return how many samples an epoch of `count` images has with repeated augmentation: the same for each device.

    As many as images: rounded down to a multiple of `round_to` and then of the devices (mmclassification 0.x, which
    takes 256), or for 1, and for fewer images than `round_to`, up to a multiple of the devices (mmpretrain 1.x).
    """
    if round_to > 1 and count >= round_to:
        return count // round_to * round_to // devices * devices
    return math.ceil(count / devices) * devices
