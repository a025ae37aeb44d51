"""The images of a split as evaluation sees them, each exactly once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.photo_loader import to_arrays, view_batches
from resnetkit.data.photos import PhotoSplit
from resnetkit.data.resize import view_of
from resnetkit.data.spec import Split
from resnetkit.data.transforms import Preprocess

Seen = Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]  # images [N, side, side, 3] and labels [N]


SMALL = 64  # pixels a side
LARGE_BATCH, SMALL_BATCH = 200, 32  # images: of small ones many, or the calls cost more than the arithmetic


def batch_size_for(preprocess: Preprocess) -> int:
    """Return how many images of this size are best evaluated at once."""
    return LARGE_BATCH if preprocess.image_size <= SMALL else SMALL_BATCH


def seen(split: Split | PhotoSplit, preprocess: Preprocess, batch_size: int | None = None) -> Seen:
    """Yield batches of a split in its order, resized and cropped as the weights' preprocessing says."""
    batch_size = batch_size or batch_size_for(preprocess)
    size = preprocess.image_size
    as_it_is = isinstance(split, Split) and {split.images.shape[1], preprocess.resize_size or size} == {size}
    if not isinstance(split, Split) or not as_it_is:
        for images, labels in view_batches(split, batch_size=batch_size, **view_of(preprocess)):
            yield images, labels.astype(np.int64)
        return
    for start in range(0, len(split), batch_size):
        part = slice(start, start + batch_size)
        yield np.array(split.images[part]), np.array(split.labels[part], np.int64)


def seen_whole(split: Split | PhotoSplit, preprocess: Preprocess) -> Split:
    """Return a split as evaluation sees it, in memory."""
    if isinstance(split, Split):
        return split
    return Split(to_arrays(split, **view_of(preprocess)), split.labels)
