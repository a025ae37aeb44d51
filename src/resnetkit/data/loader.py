"""Batches from images in memory: any step's batch is found at once, without a worker process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnetkit.data.transforms import Augmentation, Draws

Order = Callable[[int], NDArray[np.int64]]  # of an epoch: the images in order, int64 [samples]


@dataclass(frozen=True)
class Share:
    """Which images of a batch are a process's: its micro-batches are every `size`-th from the `rank`-th on.

    Micro-batch k of a batch is every `microbatches`-th image from the k-th on.
    """

    rank: int = 0
    size: int = 1
    microbatches: int = 1

    def rows(self, count: int) -> NDArray[np.int64]:
        """Return the places in a batch of `count` images."""
        return np.flatnonzero(np.arange(count) % self.microbatches % self.size == self.rank)


WHOLE = Share()


@dataclass(frozen=True)
class Batch:
    """Images of one step: a process's share of them.

    They stay bytes until they are where the model is, which then has a quarter to take over, and normalises them there.
    """

    pixels: Tensor  # uint8 [N, H, W, C]; without `normalize` the model's input already, float32 [N, C, H, W]
    labels: Tensor  # int64 [N]
    indices: NDArray[np.int64]  # positions in the training set of the whole batch, of all processes
    normalize: Callable[[Tensor], Tensor] | None = None  # uint8 [N, H, W, C] -> float32 [N, C, H, W]

    def inputs(self, rows: slice, device: torch.device) -> Tensor:
        """Return some of the images as the model takes them, on its device: float32 [n, C, H, W]."""
        pixels = self.pixels[rows].to(device)
        return self.normalize(pixels) if self.normalize else pixels

    @property
    def images(self) -> Tensor:
        """All images as the model takes them, float32 [N, C, H, W]."""
        return self.inputs(slice(None), self.pixels.device)


class Batches(Protocol):
    """The training batches of a run.

    The last batch of an epoch may be smaller.  `at(step)` is a pure function, so a resumed run goes on in constant
    time.
    """

    steps_per_epoch: int

    def at(self, step: int) -> Batch:
        """Return the batch of `step`, counted from 0 over all epochs."""

    def close(self) -> None:
        """Stop what prepares batches."""


class MemoryBatches:
    """The training batches of images held in memory.

    What an augmentation draws for an image depends on (seed, epoch, index): where an epoch shows an image several
    times, it is each time the same picture.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],  # [N, H, W, C]
        labels: NDArray[Any],  # [N]
        *,
        order: Order,
        steps_per_epoch: int,
        batch_size: int,
        seed: int,
        normalize: Callable[[Tensor], Tensor],  # uint8 [N, H, W, C] -> float32 [N, C, H, W]
        augmentations: Sequence[Augmentation] = (),
        normalize_first: bool = False,  # before augmentation: padding is then the mean, not black
        share: Share = WHOLE,
    ) -> None:
        self.images, self.labels, self.share = images, labels, share
        self.order, self.batch_size, self.seed = order, batch_size, seed
        self.normalize, self.normalize_first = normalize, normalize_first
        self.augmentations = tuple(augmentations)
        self.steps_per_epoch = steps_per_epoch
        self._epoch = -1
        self._order: NDArray[np.int64] = np.empty(0, np.int64)
        self._draws: list[Draws] = []

    def at(self, step: int) -> Batch:
        """Return the batch of `step`, counted from 0 over all epochs."""
        epoch, position = divmod(step, self.steps_per_epoch)
        self._enter(epoch)
        everywhere = self._order[position * self.batch_size : (position + 1) * self.batch_size]
        indices = everywhere[self.share.rows(len(everywhere))]
        images = self.images[indices]
        if self.normalize_first:
            images = self.normalize(torch.from_numpy(images)).permute(0, 2, 3, 1).numpy()
        for augmentation, draws in zip(self.augmentations, self._draws, strict=True):
            images = augmentation.apply(images, draws[indices])
        pixels = torch.from_numpy(np.ascontiguousarray(images))
        labels = torch.from_numpy(self.labels[indices].astype(np.int64))
        if self.normalize_first:
            return Batch(pixels.permute(0, 3, 1, 2), labels, everywhere)
        return Batch(pixels, labels, everywhere, self.normalize)

    def close(self) -> None:
        """Do nothing: batches are made when they are asked for."""

    def _enter(self, epoch: int) -> None:
        """Draw the order and the augmentations of an epoch, once."""
        if epoch == self._epoch:
            return
        count = len(self.images)
        self._order = self.order(epoch)
        self._draws = [
            augmentation.draw(self.seed, epoch, place, count) for place, augmentation in enumerate(self.augmentations)
        ]
        self._epoch = epoch
