"""Batches of photos that are read, decoded and changed in threads while the model works on the batch before.

A photo's random numbers belong to (seed, epoch, position in the epoch, index): the number of threads, a restart or
asking for steps in another order changes no pixel, and two visits of one photo in an epoch differ.
Pillow and NumPy release the interpreter's lock, so threads use all cores and share the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnetkit.data.loader import WHOLE, Batch, Order, Share
from resnetkit.data.photo_transforms import PhotoTransform
from resnetkit.data.resize import Pixels, view
from resnetkit.data.transforms import random_stream
from resnetkit.errors import BadRequest
from resnetkit.provenance import cores_of_process
from resnetkit.recipe import ResizeFamily

PHOTO = 4_000_000  # the random streams of photos; those of step.py and the order have other numbers
MAX_BYTES = 8_000_000_000  # of a split held in memory


class Photos(Protocol):
    """Images of one or many sizes that are read by their index."""

    @property
    def labels(self) -> NDArray[Any]:
        """Return the labels [N]."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> Pixels:
        """Return one image, uint8 [H, W, 3]."""


class PhotoBatches:
    """The training batches of photos that are read by their index.

    `at(step)` is a pure function: a resumed run goes on in constant time.  While the caller works, the next step's
    batch is prepared; `close` (or the end of a `with` block) stops the threads.
    """

    def __init__(
        self,
        *,
        read: Callable[[int], Pixels],  # index -> uint8 [H, W, 3]
        labels: NDArray[np.int64],  # [photos]
        order: Order,  # repeats included
        steps_per_epoch: int,
        batch_size: int,
        transforms: Sequence[PhotoTransform],  # the last gives [image_size, image_size, 3]
        image_size: int,
        normalize: Callable[[Tensor], Tensor],  # uint8 [N, H, W, C] -> float32 [N, C, H, W]
        seed: int,
        threads: int | None = None,  # None: one for each core of this process
        share: Share = WHOLE,
    ) -> None:
        self.share = share
        self.read, self.labels, self.order = read, labels, order
        self.steps_per_epoch, self.batch_size = steps_per_epoch, batch_size
        self.transforms, self.image_size = tuple(transforms), image_size
        self.normalize, self.seed = normalize, seed
        self._pool = photo_threads(threads)
        self._orders: dict[int, NDArray[np.int64]] = {}  # by epoch
        self._next: tuple[int, Pending] | None = None  # the step that is prepared ahead

    def at(self, step: int) -> Batch:
        """Return the batch of `step`, counted from 0 over all epochs; BadImage where a photo cannot be read."""
        ready, self._next = self._next, None
        if ready is None or ready[0] != step:
            if ready is not None:
                ready[1].cancel()
            ready = step, self._prepare(step)
        self._next = step + 1, self._prepare(step + 1)
        try:
            images = ready[1].images()
        except BaseException:  # not only of a photo: a signal may end the wait
            ready[1].cancel()
            self._discard()
            raise
        labels = torch.from_numpy(self.labels[ready[1].indices])
        return Batch(torch.from_numpy(images), labels, self._indices_at(step), self.normalize)

    def close(self) -> None:
        """Discard what is prepared and stop the threads."""
        self._discard()
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _discard(self) -> None:
        if self._next is not None:
            self._next[1].cancel()
        self._next = None

    def _prepare(self, step: int) -> Pending:
        """Start to prepare a step's batch."""
        epoch, place = divmod(step, self.steps_per_epoch)
        everywhere = self._indices_at(step)
        rows = self.share.rows(len(everywhere))
        indices, positions = everywhere[rows], place * self.batch_size + rows

        def show(row: int) -> Pixels:
            return self._change(epoch, int(positions[row]), int(indices[row]))

        return Pending(self._pool, show, indices, self.image_size)

    def _indices_at(self, step: int) -> NDArray[np.int64]:
        """Return the photos of a step, of all processes; an epoch's order is drawn once, that before it is kept."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch not in self._orders:
            self._orders = {known: order for known, order in self._orders.items() if known == epoch - 1}
            self._orders[epoch] = self.order(epoch)
        indices = self._orders[epoch][place * self.batch_size : (place + 1) * self.batch_size]
        assert len(indices), f"step {place} of an epoch of {self.steps_per_epoch} steps has no images"
        return indices

    def _change(self, epoch: int, position: int, index: int) -> Pixels:
        """Read a photo and change it by the random numbers of this visit."""
        rng = random_stream(self.seed, PHOTO, epoch, position, index)
        pixels = self.read(index)
        for transform in self.transforms:
            pixels = transform(pixels, rng)
        return pixels


class Pending:
    """A batch on its way: threads fill one array uint8 [N, size, size, 3]."""

    def __init__(
        self, pool: ThreadPoolExecutor, show: Callable[[int], Pixels], indices: NDArray[np.int64], size: int
    ) -> None:
        self.indices = indices
        self._show = show  # row of the batch -> uint8 [size, size, 3]
        self._images = np.empty((len(indices), size, size, 3), np.uint8)
        self._tasks = [pool.submit(self._fill, row) for row in range(len(indices))]

    def _fill(self, row: int) -> None:
        pixels, expected = self._show(row), self._images.shape[1:]
        assert pixels.shape == expected, f"the transforms gave {pixels.shape}, the model takes {expected}"
        self._images[row] = pixels

    def images(self) -> Pixels:
        """Wait for all photos; raises the error of the first one that failed."""
        for task in self._tasks:
            task.result()
        return self._images

    def cancel(self) -> None:
        """Begin no more photos of this batch."""
        for task in self._tasks:
            task.cancel()


def photo_threads(threads: int | None) -> ThreadPoolExecutor:
    """Return threads for photos, by default one for each core of this process."""
    return ThreadPoolExecutor(threads or cores_of_process(), thread_name_prefix="photos")


def view_batches(
    split: Photos,
    *,
    resize_size: int | None,
    crop_size: int,
    family: ResizeFamily,
    keep_ratio: bool,
    batch_size: int = 200,
    threads: int | None = None,  # None: one for each core of this process
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Yield what evaluation shows of every photo, once and in order: uint8 [N, crop, crop, 3] and labels [N].

    `resize.view` says what the other arguments mean.  The next batch is prepared while the caller works.
    """

    def start(first: int) -> Pending:
        indices = np.arange(first, min(first + batch_size, len(split)))

        def show(row: int) -> Pixels:
            pixels = split.read(first + row)
            return view(pixels, resize_size=resize_size, crop_size=crop_size, family=family, keep_ratio=keep_ratio)

        return Pending(pool, show, indices, crop_size)

    pool = photo_threads(threads)
    try:
        ahead = start(0)
        while len(ahead.indices):
            now, ahead = ahead, start(int(ahead.indices[-1]) + 1)
            yield now.images(), split.labels[now.indices].astype(np.int64)
    finally:
        pool.shutdown(cancel_futures=True)


def to_arrays(
    split: Photos, *, resize_size: int | None, crop_size: int, family: ResizeFamily, keep_ratio: bool
) -> NDArray[np.uint8]:
    """Read a whole split as evaluation shows it, uint8 [N, crop, crop, 3]; BadRequest above 8 GB."""
    size = len(split) * crop_size**2 * 3
    if size > MAX_BYTES:
        what = f"{len(split):,} images of {crop_size} x {crop_size} pixels take {size / 1e9:.1f} GB of memory"
        fits = f"expected at most {MAX_BYTES / 1e9:.0f} GB: {MAX_BYTES // (crop_size**2 * 3):,} images"
        raise BadRequest(what, fits, "next: use a recipe whose transforms read photos one by one, or smaller images")
    images = np.empty((len(split), crop_size, crop_size, 3), np.uint8)
    first = 0
    for pixels, _ in view_batches(
        split, resize_size=resize_size, crop_size=crop_size, family=family, keep_ratio=keep_ratio
    ):
        images[first : first + len(pixels)] = pixels
        first += len(pixels)
    return images
