"""Which images an epoch shows, and in what order: pure functions of seed and epoch."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.transforms import random_stream

MIXED_BLOCKS = 16  # stretches whose images are shuffled together
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


def balanced_order(seed: int, epoch: int, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return as many samples as there are images, as many of each class that has any: int64 [N].

    Images of a small class come several times, each as often as any other of its class but for one; of a large class
    some are left out of an epoch.
    """
    rng = random_stream(seed, epoch, ORDER)
    classes = rng.permutation(np.unique(labels))
    counts = np.full(len(classes), len(labels) // len(classes))
    counts[: len(labels) % len(classes)] += 1
    chosen = []
    for label, count in zip(classes.tolist(), counts.tolist(), strict=True):
        members = np.flatnonzero(labels == label)
        rounds = math.ceil(count / len(members))
        chosen.append(np.concatenate([rng.permutation(members) for _ in range(rounds)])[:count])
    return rng.permutation(np.concatenate(chosen))


def block_order(
    seed: int, epoch: int, count: int, blocks: NDArray[np.int64], lanes: int, mixed: int = MIXED_BLOCKS
) -> NDArray[np.int64]:
    """Return all of `count` images once, in an order that reads stretches of them one after the other: int64 [count].

    blocks: where the stretches begin, rising from 0.  They are taken in random order and dealt to `lanes`, one for each
    micro-batch of a step: position p belongs to lane p % lanes.  So a process that has some of the micro-batches reads
    only their stretches, and what a step shows does not depend on the number of processes.  Within a lane the images of
    `mixed` stretches are shuffled.
    """
    rng = random_stream(seed, epoch, ORDER)
    ends = np.append(blocks[1:], count)
    order = np.concatenate([np.arange(blocks[block], ends[block]) for block in rng.permutation(len(blocks))])
    window = max(1, mixed * math.ceil(count / len(blocks)))
    result = np.empty(count, np.int64)
    start = 0
    for lane in range(min(lanes, count)):
        own = order[start : start + len(range(lane, count, lanes))]
        start += len(own)
        parts = [rng.permutation(own[place : place + window]) for place in range(0, len(own), window)]
        result[lane::lanes] = np.concatenate(parts)
    return result
