"""The order of repeated augmentation: against mmpretrain's sampler, and the 0.x rule written out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from unittest.mock import patch

import numpy as np
import torch
from figures import Figure
from mmpretrain.datasets.samplers.repeat_aug import RepeatAugSampler
from numpy.typing import NDArray

from resnetkit.data.sampler import repeated_order

SIZES = (1000, 1003, 50_000, 1_281_167)  # images; the last is ImageNet's training set
WORLDS = (1, 2, 8)  # ranks
REPEATS, ROUND_TO_0X = 3, 256
Order = Callable[..., NDArray[np.int64]]


def index_figures() -> Iterator[Figure]:
    """Compare the sequence of every rank; the error is the number of places that differ."""
    for size in SIZES:
        for world in WORLDS:
            wrong_1x, wrong_0x = wrong_places(repeated_order, size, world)
            subject = f"{size} images, {world} ranks"
            yield Figure("repeated augmentation", subject, "mmpretrain", wrong_1x, 0.0)
            yield Figure("repeated augmentation", subject, "0.x rule", wrong_0x, 0.0)


def wrong_places(ours: Order, size: int, world: int) -> tuple[float, float]:
    """Return how many indices of all ranks differ from mmpretrain's sampler and from the 0.x rule."""
    permutation = torch.randperm(size, generator=torch.Generator().manual_seed(0)).numpy()
    order_1x = ours(permutation, repeats=REPEATS, devices=world, round_to=1)
    order_0x = ours(permutation, repeats=REPEATS, devices=world, round_to=ROUND_TO_0X)
    wrong_1x = sum(differing(order_1x[rank::world], mmpretrain_indices(size, rank, world)) for rank in range(world))
    wrong_0x = sum(differing(order_0x[rank::world], rule_0x(permutation, rank, world)) for rank in range(world))
    return wrong_1x, wrong_0x


def differing(ours: NDArray[np.int64], theirs: NDArray[np.int64]) -> float:
    """Count the places that differ; infinite for other lengths or none."""
    return float((ours != theirs).sum()) if ours.shape == theirs.shape and len(ours) else float("inf")


def mmpretrain_indices(size: int, rank: int, world: int) -> NDArray[np.int64]:
    """Return a rank's indices from mmpretrain's sampler at seed 0, which draws the permutation itself."""
    with patch("mmpretrain.datasets.samplers.repeat_aug.get_dist_info", return_value=(rank, world)):
        sampler = RepeatAugSampler(range(size), num_repeats=REPEATS, seed=0)
    return np.fromiter(sampler, np.int64)


def rule_0x(permutation: NDArray[np.int64], rank: int, world: int) -> NDArray[np.int64]:
    """Return a rank's indices by the rule of mmclassification 0.x (reference/recipes.md, 1.3)."""
    repeated = [index for index in permutation.tolist() for _ in range(REPEATS)]
    while len(repeated) % world:
        repeated.append(repeated[len(repeated) - len(permutation) * REPEATS])
    selected = len(permutation) // ROUND_TO_0X * ROUND_TO_0X // world
    return np.array(repeated[rank::world][:selected])
