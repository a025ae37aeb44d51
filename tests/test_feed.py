"""What a run is fed: photos or arrays, in the recipe's order, augmented and preprocessed as it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from resnetkit.data import photo_transforms as photo
from resnetkit.data.jitter import ColorJitter as PhotoColorJitter
from resnetkit.data.loader import MemoryBatches
from resnetkit.data.photo_loader import PhotoBatches
from resnetkit.data.photos import PhotoDataset
from resnetkit.data.randaugment import RandAugment as PhotoRandAugment
from resnetkit.data.resize import view
from resnetkit.data.trees import read_photos
from resnetkit.data.trivial_augment import TrivialAugment as PhotoTrivialAugment
from resnetkit.errors import BadRequest
from resnetkit.feed import build_feed, photo_transform, train_and_val
from resnetkit.recipe import (
    Augmentation,
    ColorJitter,
    Flip,
    Normalize,
    PadCrop,
    PcaLighting,
    RandAugment,
    RandomCrop,
    RandomErasing,
    RandomResizedCrop,
    Recipe,
    RepeatedAugmentation,
    Resize,
    ScaleJitter,
    SubtractMeanImage,
    TrivialAugment,
    View,
)
from tiny import RECIPE, tiny_dataset

PHOTOS = replace(
    RECIPE,
    image_size=24,
    batch_size=6,
    microbatch_size=2,
    augment=(RandomResizedCrop("pillow-bilinear"), Flip()),
    view=View(28, 24, "cv2-bilinear"),
    val_images=0,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> PhotoDataset:
    """Ten photos of two classes to train on, three to evaluate on."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for place, count in (("train/a", 6), ("train/b", 4), ("val/a", 2), ("val/b", 1)):
        (root / place).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (rng.integers(30, 60), rng.integers(30, 60), 3), np.uint8)
            Image.fromarray(pixels).save(root / place / f"{number}.png")
    return read_photos(root)


def test_photos_are_augmented_one_by_one_and_arrays_all_at_once(folder: PhotoDataset) -> None:
    feed = build_feed(PHOTOS, folder)
    assert isinstance(feed.batches, PhotoBatches)
    batch = feed.batches.at(0)
    assert batch.images.shape == (6, 3, 24, 24) and batch.images.dtype == torch.float32
    assert feed.batches.steps_per_epoch == 2
    assert sorted([*batch.indices, *feed.batches.at(1).indices]) == list(range(10))
    assert (feed.class_names, feed.heldout_name, len(feed.heldout)) == (("a", "b"), "test", 3)
    feed.batches.close()
    assert isinstance(build_feed(RECIPE, tiny_dataset()).batches, MemoryBatches)


def test_photos_are_read_into_memory_where_a_recipe_starts_from_the_input_size(folder: PhotoDataset) -> None:
    recipe = replace(PHOTOS, augment=(PadCrop(2), Flip(alternating=True)))
    feed = build_feed(recipe, folder)
    assert isinstance(feed.batches, MemoryBatches)
    expected = [view(folder.train.read(index), resize_size=28, crop_size=24, family="cv2-bilinear", keep_ratio=True)
                for index in range(10)]  # fmt: skip
    np.testing.assert_array_equal(feed.batches.images, np.stack(expected))
    with pytest.raises(BadRequest, match="image_size: expected 24, the size of the images, got 20"):
        build_feed(replace(recipe, image_size=20), folder)


def test_images_of_the_input_size_can_be_augmented_one_by_one(folder: PhotoDataset) -> None:
    recipe = replace(PHOTOS, augment=(PadCrop(2), Flip(), TrivialAugment(), RandomErasing(probability=1.0)))
    feed = build_feed(recipe, folder)  # through the view first, for they are of any size
    assert isinstance(feed.batches, PhotoBatches)
    assert feed.batches.at(0).images.shape == (6, 3, 24, 24)
    feed.batches.close()
    small = replace(recipe, image_size=16, view=View(16, 16))
    with build_feed(small, tiny_dataset()).batches as batches:  # type: ignore[attr-defined]
        assert batches.at(0).images.shape == (6, 3, 16, 16)
    with pytest.raises(BadRequest, match="image_size: expected 24, the size of the images, got 20"):
        build_feed(replace(recipe, image_size=20), folder)


def test_arrays_can_be_augmented_as_photos_are() -> None:
    recipe = replace(PHOTOS, image_size=12, view=View(16, 12), repeated_augmentation=RepeatedAugmentation(3, 1))
    feed = build_feed(recipe, tiny_dataset())
    batch = feed.batches.at(0)
    assert batch.images.shape == (6, 3, 12, 12)
    assert len(set(batch.indices.tolist())) == 2  # three copies of each, and they differ
    copies = [batch.images[place] for place in np.flatnonzero(batch.indices == batch.indices[0])]
    assert len(copies) == 3 and not torch.equal(copies[0], copies[1])
    parts = [batch.indices[part :: recipe.devices].tolist() for part in range(recipe.devices)]
    assert all(len(set(part)) == 2 for part in parts)  # the copies of a photo are in different micro-batches
    feed.batches.close()


def test_held_out_photos_are_spread_over_the_classes(folder: PhotoDataset) -> None:
    train, val = train_and_val(replace(PHOTOS, val_images=5), folder)
    assert val is not None and val.labels.tolist() == [0, 0, 0, 1, 1] and train.labels.tolist() == [0, 0, 0, 1, 1]
    names = {name.decode() for split in (train, val) for name in split.paths}  # type: ignore[union-attr]
    assert len(names) == 10
    with pytest.raises(BadRequest, match="less than the 10 training images, got 10"):
        train_and_val(replace(PHOTOS, val_images=10), folder)


def test_the_mean_image_of_photos_is_what_evaluation_sees(folder: PhotoDataset) -> None:
    recipe = replace(PHOTOS, preprocess=SubtractMeanImage(), view=View(28, 24, "pillow-bilinear"))
    shown = [view(folder.train.read(index), resize_size=28, crop_size=24, family="pillow-bilinear", keep_ratio=True)
             for index in range(10)]  # fmt: skip
    feed = build_feed(recipe, folder)
    np.testing.assert_allclose(feed.preprocess.mean, np.stack(shown).mean(0) / 255, atol=1e-6)
    feed.batches.close()
    some = build_feed(replace(recipe, preprocess=SubtractMeanImage(most_images=2)), folder)
    np.testing.assert_allclose(some.preprocess.mean, np.stack([shown[0], shown[5]]).mean(0) / 255, atol=1e-6)
    some.batches.close()


def test_the_view_reaches_the_preprocessing(folder: PhotoDataset) -> None:
    recipe: Recipe = replace(PHOTOS, view=View(40, 32, "pillow-bicubic", keep_ratio=False))
    feed = build_feed(replace(recipe, preprocess=Normalize((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))), folder)
    found = feed.preprocess
    assert (found.image_size, found.resize_size, found.family, found.keep_ratio) == (32, 40, "pillow-bicubic", False)
    np.testing.assert_array_equal(found.mean, np.array([0.1, 0.2, 0.3], np.float32))
    np.testing.assert_array_equal(found.std, np.array([0.4, 0.5, 0.6], np.float32))
    feed.batches.close()


@pytest.mark.parametrize(
    ("augmentation", "expected"),
    [
        (
            RandomResizedCrop("cv2-bilinear", 0.1, 0.9, 1.5),
            photo.RandomResizedCrop(20, (0.1, 0.9), (1 / 1.5, 1.5), family="cv2-bilinear"),
        ),
        (Resize(30, "pillow-bicubic", keep_ratio=False), photo.Resize(30, False, "pillow-bicubic")),
        (ScaleJitter(25, 48, "pillow-bilinear"), photo.ScaleJitter(25, 48, "pillow-bilinear")),
        (RandomCrop(), photo.RandomCrop(20)),
        (PcaLighting(0.2), photo.PcaLighting(0.2)),
        (RandAugment(6, 0.4, 3, (1, 2, 3)), PhotoRandAugment(3, 6, 0.4, (1, 2, 3))),
        (TrivialAugment(11, (1, 2, 3)), PhotoTrivialAugment(11, (1, 2, 3))),
        (ColorJitter(0.1, 0.2, 0.3, 0.4), PhotoColorJitter(0.1, 0.2, 0.3, 0.4)),
        (RandomErasing(0.5, 0.1, 0.2, 2.0, (1, 2, 3)), photo.RandomErasing(0.5, (0.1, 0.2), (0.5, 2.0), (1, 2, 3))),
        (PadCrop(3, "reflect"), photo.PadCrop(20, 3, "reflect")),
        (Flip(), photo.HorizontalFlip()),
    ],
)
def test_every_augmentation_of_photos_is_built_as_the_recipe_says(
    augmentation: Augmentation, expected: photo.PhotoTransform
) -> None:
    assert photo_transform(augmentation, 20) == expected
