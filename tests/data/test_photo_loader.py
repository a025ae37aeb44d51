from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from resnetkit.data import photo_loader
from resnetkit.data.loader import WHOLE, Batch, Share
from resnetkit.data.photo_loader import PHOTO, PhotoBatches, Photos, to_arrays, view_batches
from resnetkit.data.photo_transforms import HorizontalFlip, PhotoTransform, RandomCrop, RandomResizedCrop
from resnetkit.data.photos import PhotoSplit
from resnetkit.data.randaugment import RandAugment
from resnetkit.data.resize import view
from resnetkit.data.transforms import Preprocess, random_stream
from resnetkit.errors import BadImage, BadRequest

Pixels = NDArray[np.uint8]
PREPROCESS = Preprocess(8, np.full(3, 0.5, np.float32), np.full(3, 0.25, np.float32))
COUNT = 23
TRANSFORMS: tuple[PhotoTransform, ...] = (
    RandomResizedCrop(8, family="cv2-bilinear"),
    HorizontalFlip(),
    RandAugment(),
)


class Noise:
    """Photos of many sizes, each its own."""

    labels = np.arange(100, 100 + COUNT, dtype=np.int64)

    def __len__(self) -> int:
        return COUNT

    def read(self, index: int) -> Pixels:
        return random_stream(index).integers(0, 256, (12 + index % 5, 11 + index % 7, 3), np.uint8)


def shuffled(epoch: int) -> NDArray[np.int64]:
    return random_stream(9, epoch).permutation(COUNT)


def batches(
    *,
    read: Callable[[int], Pixels] | None = None,
    order: Callable[[int], NDArray[np.int64]] = shuffled,
    batch_size: int = 5,
    steps: int = 5,
    transforms: Sequence[PhotoTransform] = TRANSFORMS,
    seed: int = 0,
    threads: int | None = 2,
    share: Share = WHOLE,
) -> PhotoBatches:
    return PhotoBatches(
        read=read or Noise().read,
        labels=Noise.labels,
        order=order,
        steps_per_epoch=steps,
        batch_size=batch_size,
        transforms=transforms,
        image_size=8,
        normalize=PREPROCESS.normalize,
        seed=seed,
        threads=threads,
        share=share,
    )


def equal(one: Batch, other: Batch) -> bool:
    same = torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)
    return same and one.indices.tolist() == other.indices.tolist()


# --- training batches ---


def test_an_epoch_follows_its_order() -> None:
    with batches() as loader:
        for epoch in (0, 3):
            found = [loader.at(epoch * 5 + step) for step in range(5)]
            assert np.concatenate([batch.indices for batch in found]).tolist() == shuffled(epoch).tolist()
            assert [len(batch.labels) for batch in found] == [5, 5, 5, 5, 3]
            for batch in found:
                assert batch.labels.tolist() == [100 + index for index in batch.indices]
                assert batch.images.shape == (len(batch.labels), 3, 8, 8)
                assert batch.images.dtype == torch.float32
                assert batch.images.is_contiguous(memory_format=torch.channels_last)
                assert batch.labels.dtype == torch.int64


def test_pixels_are_read_changed_and_normalized() -> None:
    with batches(seed=4) as loader:
        batch = loader.at(7)  # the third batch of epoch 1
    for row, index in enumerate(batch.indices):
        rng = random_stream(4, PHOTO, 1, 10 + row, int(index))
        pixels = Noise().read(int(index))
        for transform in TRANSFORMS:
            pixels = transform(pixels, rng)
        expected = PREPROCESS.normalize(torch.from_numpy(pixels.copy()[None]))
        assert torch.equal(batch.images[row : row + 1], expected)


@settings(max_examples=20)
@given(steps=st.lists(st.integers(0, 14), min_size=1, max_size=6), threads=st.integers(1, 5))
def test_any_order_and_number_of_threads_gives_the_same(steps: list[int], threads: int) -> None:
    with batches(threads=threads) as loader:
        for step in steps:
            with batches(threads=1) as fresh:
                assert equal(loader.at(step), fresh.at(step))


def test_pictures_do_not_depend_on_the_batch_size() -> None:
    with batches() as parts, batches(batch_size=COUNT, steps=1) as whole:
        together = torch.cat([parts.at(step).images for step in range(5)])
        assert torch.equal(together, whole.at(0).images)


def test_epochs_seeds_and_repeats_differ() -> None:
    def thrice(epoch: int) -> NDArray[np.int64]:
        return np.repeat(np.arange(2), 3)

    with (
        batches(order=thrice, batch_size=6, steps=1) as one,
        batches(order=thrice, batch_size=6, steps=1, seed=1) as two,
    ):
        images = torch.cat([one.at(0).images, one.at(1).images, two.at(0).images])
        assert one.at(0).indices.tolist() == [0, 0, 0, 1, 1, 1]
    assert len({image.numpy().tobytes() for image in images}) == 18


def test_a_batch_is_not_changed_by_the_next_one() -> None:
    with batches() as loader:
        first = loader.at(0)
        kept = first.pixels.clone()
        first.pixels.add_(1)
        loader.at(1)
        assert torch.equal(first.pixels, kept + 1)
        assert torch.equal(loader.at(0).pixels, kept)


class Slow(Noise):
    """Count what was read; photos that are held back wait for `go`."""

    def __init__(self, held_back: Sequence[int] = ()) -> None:
        self.seen: list[int] = []
        self.go = threading.Event()
        self.held_back = held_back

    def read(self, index: int) -> Pixels:
        if index in self.held_back:
            assert self.go.wait(10)
        self.seen.append(index)
        return super().read(index)


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def in_order(epoch: int) -> NDArray[np.int64]:
    return np.arange(COUNT)


def test_the_next_batch_is_prepared_while_the_caller_works() -> None:
    photos = Slow()
    with batches(read=photos.read, order=in_order) as loader:
        loader.at(0)
        until(lambda: len(photos.seen) == 10)
        assert sorted(photos.seen) == list(range(10))
        loader.at(1)
        until(lambda: len(photos.seen) == 15)
        assert sorted(photos.seen) == list(range(15))  # none was read twice


def test_another_step_discards_what_is_prepared() -> None:
    photos = Slow(held_back=[5])
    with batches(read=photos.read, order=in_order, threads=1) as loader:
        loader.at(0)  # and photo 5 of step 1 is waited for
        threading.Timer(0.05, photos.go.set).start()
        assert loader.at(3).indices.tolist() == [15, 16, 17, 18, 19]
        assert not set(photos.seen) & {6, 7, 8, 9}


def broken(index: int) -> Pixels:
    if index in (7, 9):
        raise BadImage(f"photo{index}.jpg: the image is damaged")
    return Noise().read(index)


def test_an_error_of_a_thread_surfaces_at_its_step() -> None:
    with batches(read=broken, order=in_order) as loader:
        good = loader.at(0)  # step 1 is being prepared already
        for _ in range(2):  # not forgotten
            with pytest.raises(BadImage, match=r"^photo7\.jpg: the image is damaged$"):
                loader.at(1)
        assert loader.at(2).indices.tolist() == [10, 11, 12, 13, 14]
        assert equal(loader.at(0), good)


def test_wrong_sizes_and_empty_steps_are_our_own_mistakes() -> None:
    with batches(transforms=(RandomCrop(1),)) as loader, pytest.raises(AssertionError, match=r"gave \(1, 1, 3\)"):
        loader.at(0)
    with batches(steps=6) as loader, pytest.raises(AssertionError, match="step 5 of an epoch of 6 steps has no images"):
        loader.at(5)


def photo_thread_names() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("photos")]


def test_no_thread_is_left() -> None:
    photos = Slow(held_back=[5])
    loader = batches(read=photos.read, order=in_order, threads=2)
    loader.at(0)
    assert photo_thread_names()
    threading.Timer(0.05, photos.go.set).start()
    loader.close()  # in the middle of step 1
    assert photo_thread_names() == []


# --- evaluation ---


@pytest.mark.parametrize(("batch_size", "sizes"), [(10, [10, 10, 3]), (23, [23]), (200, [23]), (1, [1] * 23)])
def test_evaluation_sees_every_photo_once_in_order(batch_size: int, sizes: list[int]) -> None:
    seen = list(
        view_batches(
            Noise(),
            resize_size=9,
            crop_size=8,
            family="cv2-bilinear",
            keep_ratio=True,
            batch_size=batch_size,
            threads=2,
        )
    )
    assert [len(images) for images, _ in seen] == sizes
    labels = np.concatenate([labels for _, labels in seen])
    assert labels.tolist() == Noise.labels.tolist()
    assert labels.dtype == np.int64
    for index, image in enumerate(np.concatenate([images for images, _ in seen])):
        pixels = Noise().read(index)
        expected = view(pixels, resize_size=9, crop_size=8, family="cv2-bilinear", keep_ratio=True)
        np.testing.assert_array_equal(image, expected)
    assert photo_thread_names() == []


def test_evaluation_may_end_early_or_fail() -> None:
    class Broken(Noise):
        def read(self, index: int) -> Pixels:
            return broken(index)

    options: dict[str, Any] = {"resize_size": 9, "crop_size": 8, "family": "cv2-bilinear", "keep_ratio": False}
    stream = view_batches(Noise(), batch_size=4, **options)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert photo_thread_names() == []
    with pytest.raises(BadImage, match=r"^photo7\.jpg"):
        list(view_batches(Broken(), batch_size=4, **options))
    assert photo_thread_names() == []


def test_a_split_as_arrays(tmp_path: Path) -> None:
    for number in range(5):
        Image.new("RGB", (9 + number, 8), (40 * number,) * 3).save(tmp_path / f"{number}.png")
    paths = np.array([f"{number}.png" for number in range(5)], np.bytes_)
    split = PhotoSplit(tmp_path, paths, np.arange(5))
    found = to_arrays(split, resize_size=None, crop_size=8, family="pillow-bilinear", keep_ratio=True)
    assert found.shape == (5, 8, 8, 3)
    assert found.dtype == np.uint8
    assert found[:, 4, 4, 0].tolist() == [0, 40, 80, 120, 160]
    (tmp_path / "3.png").unlink()
    with pytest.raises(BadImage, match=r"3\.png: No such file"):
        to_arrays(split, resize_size=None, crop_size=8, family="pillow-bilinear", keep_ratio=True)


def test_a_split_of_many_batches_as_arrays() -> None:
    class Many(Noise):
        labels = np.zeros(450, np.int64)

        def __len__(self) -> int:
            return 450

        def read(self, index: int) -> Pixels:
            return np.full((4, 4, 3), index % 251, np.uint8)

    found = to_arrays(Many(), resize_size=None, crop_size=4, family="pillow-bilinear", keep_ratio=True)
    assert found[:, 0, 0, 0].tolist() == [index % 251 for index in range(450)]


def test_no_photos_make_no_batches() -> None:
    nothing = PhotoSplit(Path(), np.empty(0, "S1"), np.empty(0, np.int64))
    assert list(view_batches(nothing, resize_size=9, crop_size=8, family="cv2-bilinear", keep_ratio=True)) == []


def test_a_split_above_eight_gigabytes_is_refused() -> None:
    class Many(Noise):
        def __len__(self) -> int:
            return 60_000

    assert photo_loader.MAX_BYTES == 8_000_000_000
    many: Photos = Many()
    with pytest.raises(BadRequest, match=r"^60,000 images of 224 x 224 pixels take 9\.0 GB of memory") as caught:
        to_arrays(many, resize_size=256, crop_size=224, family="cv2-bilinear", keep_ratio=True)
    assert "expected at most 8 GB: 53,146 images" in caught.value.details


def test_a_share_of_a_batch_has_the_same_pictures_and_reads_no_others() -> None:
    with batches() as whole:
        expected = [whole.at(step) for step in range(6)]
    for rank in range(4):
        share, asked = Share(rank, 4, 5), []

        def read(index: int) -> Pixels:
            asked.append(index)  # noqa: B023
            return Noise().read(index)

        with batches(read=read, share=share) as part:
            for step, batch in enumerate(expected):
                found, rows = part.at(step), share.rows(len(batch.indices))
                assert found.indices.tolist() == batch.indices.tolist()
                assert torch.equal(found.images, batch.images[rows]) and torch.equal(found.labels, batch.labels[rows])
        own = [index for batch in expected for index in batch.indices[share.rows(len(batch.indices))]]
        assert set(own) <= set(asked) and len(asked) <= len(own) + 2  # the next batch is prepared ahead
