"""What a run is fed: training batches, the images evaluated while training, and preprocessing, from recipe and data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from resnetkit import recipe as r
from resnetkit.data import photo_transforms as photo
from resnetkit.data.jitter import ColorJitter
from resnetkit.data.loader import Batches, MemoryBatches, Order, Share
from resnetkit.data.mix import Mix
from resnetkit.data.photo_loader import PHOTO, PhotoBatches
from resnetkit.data.photos import PhotoDataset, PhotoSplit
from resnetkit.data.randaugment import RandAugment
from resnetkit.data.resize import Pixels, view
from resnetkit.data.sampler import balanced_order, block_order, epoch_order, repeated_length, repeated_order
from resnetkit.data.seen import seen, seen_whole
from resnetkit.data.spec import ArrayDataset, Split
from resnetkit.data.transforms import (
    Augmentation,
    Images,
    Preprocess,
    ProgressiveCrop,
    RandomFlip,
    RandomPadCrop,
    mean_image,
    random_stream,
)
from resnetkit.data.trivial_augment import TrivialAugment
from resnetkit.errors import BadRequest
from resnetkit.processes import ALONE, Processes
from resnetkit.recipe import Recipe
from resnetkit.recipe_checks import changes_whole_batches, takes_any_size

Dataset = ArrayDataset | PhotoDataset


@dataclass(frozen=True)
class Feed:
    """What the loop is fed."""

    batches: Batches
    train: Split | PhotoSplit
    preprocess: Preprocess
    heldout: Split | PhotoSplit  # evaluated while training
    heldout_name: str
    class_names: tuple[str, ...]
    data_sha256: str
    name_of: Callable[[int], str]  # of a training image


def build_feed(recipe: Recipe, dataset: Dataset, processes: Processes = ALONE) -> Feed:
    """Build all that comes from the data.

    Photos are read as they are needed where the augmentations begin with photos of any size; else once, through the
    recipe's view, into memory.  Raises BadRequest where the data does not go with the recipe.
    """
    train_split, val_split = train_and_val(recipe, dataset)
    if recipe.early_stopping and val_split is None:
        next_step = "next: --set val_images=N, or data with val beside test"
        raise BadRequest("early_stopping: expected images of val to decide by; the test images must not", next_step)
    preprocess = build_preprocess(recipe, train_split)
    files, share = train_split, Share(processes.rank, processes.size, recipe.devices)
    if not takes_any_size(recipe):
        train_split = seen_whole(train_split, preprocess)
        refuse_other_sizes(recipe, train_split)
    return Feed(
        batches=build_batches(recipe, train_split, preprocess, share),
        train=train_split,
        preprocess=preprocess,
        heldout=val_split if val_split is not None else dataset.test,
        heldout_name="test" if val_split is None else "val",
        class_names=dataset.class_names,
        data_sha256=dataset.sha256,
        name_of=lambda index: files.name(index) if isinstance(files, PhotoSplit) else str(index),
    )


def train_and_val(recipe: Recipe, dataset: Dataset) -> tuple[Split | PhotoSplit, Split | PhotoSplit | None]:
    """Return the images to train on and those to evaluate on while training, None where those are the test images.

    `val_images` are taken from the training images: of arrays the last; of photos, sorted by class, evenly spread ones.
    """
    count = len(dataset.train)
    if not recipe.val_images:
        return dataset.train, dataset.val if isinstance(dataset, PhotoDataset) else None
    if recipe.val_images >= count:
        raise BadRequest(f"val_images: expected less than the {count} training images, got {recipe.val_images}")
    if isinstance(dataset, PhotoDataset):
        held = spread(count, recipe.val_images)
        return dataset.train.part(np.delete(np.arange(count), held)), dataset.train.part(held)
    kept = count - recipe.val_images
    images, labels = dataset.train.images, dataset.train.labels
    return Split(images[:kept], labels[:kept]), Split(images[kept:], labels[kept:])


def refuse_other_sizes(recipe: Recipe, split: Split) -> None:
    """Refuse images that are not of the input size, where no augmentation brings them to it."""
    side = split.images.shape[1]
    if side != recipe.image_size:
        raise BadRequest(f"image_size: expected {side}, the size of the images, got {recipe.image_size}")


def build_batches(recipe: Recipe, split: Split | PhotoSplit, preprocess: Preprocess, share: Share) -> Batches:
    """Build a process's share of the training batches in the recipe's order."""
    blocks = split.blocks() if isinstance(split, PhotoSplit) else None
    order, samples = build_order(recipe, split.labels.astype(np.int64), blocks)
    refuse_uneven(recipe, samples, share)
    if changes_whole_batches(recipe):
        assert isinstance(split, Split)
        return MemoryBatches(
            np.array(split.images),
            split.labels,
            order=order,
            steps_per_epoch=math.ceil(samples / recipe.batch_size),
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            normalize=preprocess.normalize,
            augmentations=array_augmentations(recipe),
            normalize_first=preprocess.mean.ndim == 3,
            share=share,
        )
    return PhotoBatches(
        read=split.read,
        labels=split.labels.astype(np.int64),
        order=order,
        steps_per_epoch=math.ceil(samples / recipe.batch_size),
        batch_size=recipe.batch_size,
        transforms=photo_transforms(recipe),
        image_size=recipe.image_size,
        normalize=preprocess.normalize,
        seed=recipe.seed,
        share=share,
    )


def refuse_uneven(recipe: Recipe, samples: int, share: Share) -> None:
    """Refuse processes that would wait for each other's statistics while one has no micro-batch."""
    last = samples % recipe.batch_size or recipe.batch_size
    counts = {recipe.devices, min(last, recipe.devices)}  # micro-batches of a step, of all processes
    if recipe.sync_batchnorm and any(count % share.size for count in counts):
        what = f"sync_batchnorm: {share.size} processes cannot share steps of {max(counts)} micro-batches evenly"
        raise BadRequest(what, f"the last step of an epoch has {last} images", "next: another number of processes")


def build_order(recipe: Recipe, labels: NDArray[np.int64], blocks: NDArray[np.int64] | None) -> tuple[Order, int]:
    """Return the order of an epoch as a function of the epoch, and how many samples it has.

    blocks: where stretches begin that are best read one after the other; an order of the recipe's own goes before that.
    """
    repeated, count = recipe.repeated_augmentation, len(labels)
    if recipe.balance == "sampling":
        return lambda epoch: balanced_order(recipe.seed, epoch, labels), count
    if repeated is None and blocks is not None:
        return partial(block_order, recipe.seed, count=count, blocks=blocks, lanes=recipe.devices), count
    if repeated is None:
        return partial(epoch_order, recipe.seed, count=count), count
    devices, round_to = recipe.devices, repeated.round_to

    def order(epoch: int) -> NDArray[np.int64]:
        permutation = epoch_order(recipe.seed, epoch, count=count)
        return repeated_order(permutation, repeats=repeated.repeats, devices=devices, round_to=round_to)

    return order, repeated_length(count, devices=devices, round_to=round_to)


def build_preprocess(recipe: Recipe, split: Split | PhotoSplit) -> Preprocess:
    """Build the preprocessing; the mean image is that of the images trained on, as evaluation sees them."""
    view, constants = recipe.view, recipe.preprocess
    channels = constants if isinstance(constants, r.Normalize) else r.Normalize((0.0,) * 3, (1.0,) * 3)
    mean, std = np.asarray(channels.mean, np.float32), np.asarray(channels.std, np.float32)
    plain = Preprocess(view.crop_size, mean, std, view.resize_size, view.family, view.keep_ratio)
    if isinstance(constants, r.Normalize):
        return plain
    if len(split) > constants.most_images:
        split = split.part(spread(len(split), constants.most_images))
    return replace(plain, mean=mean_image(images for images, _ in seen(split, plain)))


def spread(count: int, chosen: int) -> NDArray[np.int64]:
    """Return `chosen` of `count` indices, evenly spread."""
    return np.linspace(0, count, chosen, endpoint=False).astype(np.int64)


def array_augmentations(recipe: Recipe) -> list[Augmentation]:
    """Build the augmentations of images of the input size, in the recipe's order."""
    built: list[Augmentation] = []
    for augmentation in recipe.augment:
        match augmentation:
            case r.PadCrop(padding=padding, mode=mode):
                built.append(RandomPadCrop(padding, mode))
            case r.ProgressiveCrop(sizes=sizes, until_epochs=until_epochs):
                built.append(ProgressiveCrop(sizes, until_epochs))
            case r.Flip(alternating=alternating):
                built.append(RandomFlip(alternating))
    return built


def build_mixes(recipe: Recipe) -> tuple[Mix, ...]:
    """Return the recipe's ways of mixing a micro-batch."""
    return tuple(
        Mix("mixup" if isinstance(mix, r.Mixup) else "cutmix", mix.alpha, mix.probability) for mix in recipe.mix
    )


def preview(recipe: Recipe, pixels: Pixels, index: int, epoch: int) -> Pixels:
    """Return what training would show of one image [H, W, 3] in an epoch, before mixing and normalisation."""
    shown = pixels if takes_any_size(recipe) else seen_alone(pixels, recipe)
    if changes_whole_batches(recipe):
        images: Images = shown[None]
        for place, augmentation in enumerate(array_augmentations(recipe)):
            images = augmentation.apply(images, augmentation.draw(recipe.seed, epoch, place, index + 1)[index:])
        return np.asarray(images[0])
    rng = random_stream(recipe.seed, PHOTO, epoch, index, index)
    for transform in photo_transforms(recipe):
        shown = transform(shown, rng)
    return shown


def seen_alone(pixels: Pixels, recipe: Recipe) -> Pixels:
    """Return what evaluation by a recipe sees of one image [H, W, 3]."""
    return view(pixels, **vars(recipe.view))


def photo_transforms(recipe: Recipe) -> list[photo.PhotoTransform]:
    """Build the augmentations of photos, in the recipe's order."""
    return [photo_transform(augmentation, recipe.image_size) for augmentation in recipe.augment]


def photo_transform(augmentation: r.Augmentation, size: int) -> photo.PhotoTransform:
    """Build one augmentation of photos; crops are of `size` pixels a side."""
    built: photo.PhotoTransform
    match augmentation:
        case r.RandomResizedCrop(family=family, min_area=low, max_area=high, max_ratio=ratio):
            built = photo.RandomResizedCrop(size, (low, high), (1 / ratio, ratio), family=family)
        case r.Resize(size=target, keep_ratio=keep_ratio, family=family):
            built = photo.Resize(target, keep_ratio, family)
        case r.ScaleJitter(min_size=min_size, max_size=max_size, family=family):
            built = photo.ScaleJitter(min_size, max_size, family)
        case r.RandomCrop():
            built = photo.RandomCrop(size)
        case r.PcaLighting(std=std):
            built = photo.PcaLighting(std)
        case r.RandAugment(num_ops=num_ops, level=level, level_std=level_std, fill=(red, green, blue)):
            built = RandAugment(num_ops, level, level_std, (red, green, blue))
        case r.TrivialAugment(num_levels=num_levels, fill=(red, green, blue)):
            built = TrivialAugment(num_levels, (red, green, blue))
        case r.ColorJitter(brightness=brightness, contrast=contrast, saturation=saturation, hue=hue):
            built = ColorJitter(brightness, contrast, saturation, hue)
        case r.RandomErasing(probability=p, min_area=low, max_area=high, max_ratio=ratio, color=color):
            built = photo.RandomErasing(p, (low, high), (1 / ratio, ratio), color)
        case r.PadCrop(padding=padding, mode=mode):
            built = photo.PadCrop(size, padding, mode)
        case r.Flip():
            built = photo.HorizontalFlip()
        case _:
            raise AssertionError(f"recipe_checks refuses {augmentation} beside the augmentations of photos")
    return built
