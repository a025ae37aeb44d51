from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from resnetkit.data.loader import WHOLE, Batch, MemoryBatches, Share
from resnetkit.data.sampler import epoch_order
from resnetkit.data.transforms import Augmentation, Preprocess, RandomFlip, RandomPadCrop, mean_image

IMAGES: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (23, 6, 6, 3), np.uint8)
LABELS = np.arange(23, dtype=np.uint8)  # each image its own label
PREPROCESS = Preprocess(6, np.full(3, 0.5, np.float32), np.full(3, 0.25, np.float32))
AUGMENTATIONS: tuple[Augmentation, ...] = (RandomPadCrop(2, "zero"), RandomFlip(alternating=False))


def batches(
    batch_size: int = 5,
    *,
    seed: int = 0,
    count: int = 23,
    augmentations: Sequence[Augmentation] = AUGMENTATIONS,
    preprocess: Preprocess = PREPROCESS,
    normalize_first: bool = False,
    share: Share = WHOLE,
) -> MemoryBatches:
    return MemoryBatches(
        IMAGES[:count],
        LABELS[:count],
        order=partial(epoch_order, seed, count=count),
        steps_per_epoch=math.ceil(count / batch_size),
        batch_size=batch_size,
        seed=seed,
        normalize=preprocess.normalize,
        augmentations=augmentations,
        normalize_first=normalize_first,
        share=share,
    )


def epoch_of(loader: MemoryBatches, epoch: int) -> list[Batch]:
    per_epoch = loader.steps_per_epoch
    return [loader.at(step) for step in range(epoch * per_epoch, (epoch + 1) * per_epoch)]


def order_of(loader: MemoryBatches, epoch: int) -> list[int]:
    return [int(index) for batch in epoch_of(loader, epoch) for index in batch.indices]


@given(count=st.integers(1, 23), batch_size=st.integers(1, 30), epoch=st.integers(0, 5), seed=st.integers(0, 3))
def test_each_epoch_is_a_permutation_with_a_smaller_last_batch(
    count: int, batch_size: int, epoch: int, seed: int
) -> None:
    loader = batches(batch_size, seed=seed, count=count)
    parts = epoch_of(loader, epoch)
    assert sorted(order_of(loader, epoch)) == list(range(count))
    sizes = [len(part.labels) for part in parts]
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
    assert 1 <= sizes[-1] <= batch_size
    for part in parts:
        assert part.labels.tolist() == part.indices.tolist()  # the labels belong to the images
        assert len(part.images) == len(part.labels)


def test_types_and_shapes() -> None:
    batch = batches().at(0)
    assert batch.images.shape == (5, 3, 6, 6)
    assert batch.images.dtype == torch.float32
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.labels.dtype == torch.int64
    assert batch.indices.dtype == np.int64


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = [tuple(order_of(batches(seed=seed), epoch)) for seed in range(3) for epoch in range(3)]
    assert len(set(orders)) == 9


def pictures(loader: MemoryBatches, epoch: int) -> dict[int, bytes]:
    return {
        int(index): image.numpy().tobytes()
        for batch in epoch_of(loader, epoch)
        for index, image in zip(batch.indices, batch.images, strict=True)
    }


@given(batch_size=st.integers(1, 30), epoch=st.integers(0, 4), seed=st.integers(0, 3))
def test_order_and_pictures_do_not_depend_on_the_batch_size(batch_size: int, epoch: int, seed: int) -> None:
    whole, parts = batches(23, seed=seed), batches(batch_size, seed=seed)
    assert order_of(parts, epoch) == order_of(whole, epoch)
    assert pictures(parts, epoch) == pictures(whole, epoch)


def test_pictures_change_from_epoch_to_epoch_and_seed_to_seed() -> None:
    first, second, other = pictures(batches(), 0), pictures(batches(), 1), pictures(batches(seed=1), 0)
    for changed in (second, other):
        assert sum(first[index] == changed[index] for index in first) <= 4  # 1 in 50 by chance


@given(st.lists(st.integers(0, 24), min_size=1, max_size=12))
def test_any_step_may_be_asked_in_any_order(steps: list[int]) -> None:
    loader = batches()
    for step in steps:
        jumped, fresh = loader.at(step), batches().at(step)
        assert torch.equal(jumped.images, fresh.images)
        assert torch.equal(jumped.labels, fresh.labels)
        np.testing.assert_array_equal(jumped.indices, fresh.indices)


def test_a_batch_is_not_changed_by_the_next_one() -> None:
    loader = batches()
    first = loader.at(0)
    kept = first.pixels.clone()
    first.pixels.add_(1)
    loader.at(1)
    assert torch.equal(first.pixels, kept + 1)
    assert torch.equal(loader.at(0).pixels, kept)


@pytest.mark.parametrize("normalize_first", [False, True])
def test_without_augmentation_the_images_are_the_normalized_ones(normalize_first: bool) -> None:
    batch = batches(augmentations=(), normalize_first=normalize_first).at(2)
    assert torch.equal(batch.images, PREPROCESS.normalize(torch.from_numpy(IMAGES[batch.indices])))


def test_augmentation_is_that_of_the_epoch_in_the_order_given() -> None:
    loader = batches(seed=4)
    batch = loader.at(3 * loader.steps_per_epoch + 1)
    images: NDArray[Any] = IMAGES[batch.indices]
    for place, augmentation in enumerate(AUGMENTATIONS):
        images = augmentation.apply(images, augmentation.draw(4, 3, place, 23)[batch.indices])
    assert torch.equal(batch.images, PREPROCESS.normalize(torch.from_numpy(np.ascontiguousarray(images))))


class LookBeyondTheEdge(RandomPadCrop):
    """Always the top left crop."""

    def draw(self, seed: int, epoch: int, place: int, count: int) -> NDArray[Any]:
        return np.zeros((count, 2), np.uint8)


def test_padding_is_black_or_the_mean_when_normalized_first() -> None:
    corner = (LookBeyondTheEdge(2, "zero"),)
    black = batches(augmentations=corner).at(0).images
    assert torch.equal(black[:, :, :2, :], torch.full((5, 3, 2, 6), -2.0))
    mean = Preprocess(6, mean_image([IMAGES]), np.ones(3, np.float32))
    batch = batches(augmentations=corner, preprocess=mean, normalize_first=True).at(0)
    assert (batch.images[:, :, :2, :] == 0).all()
    assert (batch.images[:, :, :, :2] == 0).all()
    inside = mean.normalize(torch.from_numpy(IMAGES[batch.indices]))
    # Each pixel has the mean of its own place subtracted, not of the place it is moved to.
    assert torch.equal(batch.images[:, :, 2:, 2:], inside[:, :, :-2, :-2])
    assert batch.images.is_contiguous(memory_format=torch.channels_last)


def test_read_only_memory_is_fine() -> None:
    images = IMAGES.copy()
    images.flags.writeable = False
    order = partial(epoch_order, 0, count=23)
    loader = MemoryBatches(
        images, LABELS, order=order, steps_per_epoch=6, batch_size=4, seed=0, normalize=PREPROCESS.normalize
    )
    assert torch.equal(loader.at(0).images, PREPROCESS.normalize(torch.from_numpy(IMAGES[loader.at(0).indices])))


@given(st.integers(0, 40), st.integers(1, 12), st.integers(1, 6))
def test_shares_have_each_row_once_and_whole_microbatches(count: int, microbatches: int, size: int) -> None:
    rows = [Share(rank, size, microbatches).rows(count).tolist() for rank in range(size)]
    assert sorted(row for share in rows for row in share) == list(range(count))
    parts = min(microbatches, count)
    for rank, share in enumerate(rows):
        own = range(rank, parts, size)  # of these micro-batches, each is every so many-th of the share's rows
        assert [share[place :: len(own)] for place in range(len(own))] == [list(range(k, count, parts)) for k in own]


def test_a_share_of_a_batch_has_the_same_pictures() -> None:
    whole = batches()
    for step in (0, 4, 5):  # 4: three images only, so the last process has none
        batch = whole.at(step)
        for rank in range(4):
            share = Share(rank, 4, 5)
            part, rows = batches(share=share).at(step), share.rows(len(batch.indices))
            assert part.indices.tolist() == batch.indices.tolist()
            assert torch.equal(part.images, batch.images[rows]) and torch.equal(part.labels, batch.labels[rows])
