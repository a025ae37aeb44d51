"""What a recipe costs: steps, images and arithmetic, known before anything is started."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

from resnetkit.data.sampler import repeated_length
from resnetkit.data.spec import OFFICIAL_SIZES
from resnetkit.errors import BadRequest
from resnetkit.models import Architecture, ResNet, find_architecture
from resnetkit.models.counting import count
from resnetkit.recipe import ProgressiveCrop, Recipe, total_steps_of

FORWARDS_A_STEP = 3  # a backward pass costs two forward passes: gradients of the weights and of the inputs
OPERATIONS_A_MAC = 2  # a multiplication and an addition


@dataclass(frozen=True)
class RecipeCost:
    """What training by a recipe takes; evaluation is left out."""

    steps: int
    steps_per_epoch: int
    epochs: float
    batch_size: int
    train_images: int  # without those held out
    samples: int  # images seen, each as often as it is
    num_classes: int
    params: int
    image_size: int  # pixels a side in training
    macs: int  # multiply-adds of a forward pass of one image, convolutions and linear layers
    eval_image_size: int  # pixels a side in evaluation
    eval_macs: int
    smaller_until_epoch: int  # the images of epochs before it are smaller than image_size
    train_flops: int  # 3 forward passes x 2 operations x macs x samples, of each size

    def lines(self) -> tuple[str, ...]:
        """Say it in plain sentences."""
        size = f"{self.image_size} x {self.image_size}"
        smaller = f", smaller ones until epoch {self.smaller_until_epoch}" * (self.smaller_until_epoch > 0)
        evaluated = f"; evaluation at {self.eval_image_size} x {self.eval_image_size}: {self.eval_macs:,}"
        return (
            f"{self.steps:,} steps of {self.batch_size:,} images, {self.steps_per_epoch:,} an epoch: "
            f"{self.epochs:,.1f} epochs of {self.train_images:,} images, {self.samples:,} images seen",
            f"{self.params:,} parameters, {self.macs:,} multiply-adds an image of {size}{smaller}"
            + evaluated * (self.eval_image_size != self.image_size),
            f"{self.train_flops / 1e15:,.3f} PFLOP of training: 2 operations a multiply-add, a backward pass as "
            "two forward passes; evaluation and the steps of the optimizer are not counted",
        )


def recipe_cost(recipe: Recipe, train_images: int | None = None, num_classes: int | None = None) -> RecipeCost:
    """Count what a recipe costs on data of `train_images` training images (before some are held out) and classes.

    Both default to the official size of the recipe's data set; BadRequest where it has none.
    """
    images, classes = data_size(recipe, train_images, num_classes)
    kept = images - recipe.val_images
    per_epoch = samples_per_epoch(recipe, kept)
    steps_per_epoch = math.ceil(per_epoch / recipe.batch_size)
    steps = total_steps_of(recipe, steps_per_epoch)
    whole, rest = divmod(steps, steps_per_epoch)
    samples = whole * per_epoch + rest * recipe.batch_size  # only the last step of an epoch has fewer images
    arch, evaluated = architecture_of(recipe, classes), recipe.view.crop_size
    net = count(lambda: ResNet(arch), recipe.image_size)
    same = evaluated == recipe.image_size
    sizes = image_sizes(recipe)
    macs = 0  # of all forward passes in training
    for (size, start), (_, end) in pairwise([*sizes, (0, math.inf)]):
        seen = int(min(end * per_epoch, samples) - min(start * per_epoch, samples))
        macs += seen * (net.macs if size == recipe.image_size else count(lambda: ResNet(arch), size).macs)
    return RecipeCost(
        steps=steps,
        steps_per_epoch=steps_per_epoch,
        epochs=steps / steps_per_epoch,
        batch_size=recipe.batch_size,
        train_images=kept,
        samples=samples,
        num_classes=classes,
        params=net.params,
        image_size=recipe.image_size,
        macs=net.macs,
        eval_image_size=evaluated,
        eval_macs=net.macs if same else count(lambda: ResNet(arch), evaluated).macs,
        smaller_until_epoch=sizes[-1][1],
        train_flops=FORWARDS_A_STEP * OPERATIONS_A_MAC * macs,
    )


def image_sizes(recipe: Recipe) -> list[tuple[int, int]]:
    """Return the sides of images in training, each with the epoch that it begins with."""
    crops = [each for each in recipe.augment if isinstance(each, ProgressiveCrop)]
    sizes, ends = (crops[0].sizes, crops[0].until_epochs) if crops else ((), ())
    return list(zip((*sizes, recipe.image_size), (0, *ends), strict=True))


def data_size(recipe: Recipe, train_images: int | None, num_classes: int | None) -> tuple[int, int]:
    """Return training images and classes: as given, else official."""
    official = OFFICIAL_SIZES.get(recipe.data)
    images = official.train_images if train_images is None and official else train_images
    classes = official.num_classes if num_classes is None and official else num_classes
    if images is None or classes is None:
        known = ", ".join(OFFICIAL_SIZES)
        raise BadRequest(f"the size of {recipe.data!r} is not known before it is read", f"known: {known}")
    if images <= recipe.val_images:
        raise BadRequest(f"val_images: expected less than the {images} training images, got {recipe.val_images}")
    return images, classes


def samples_per_epoch(recipe: Recipe, images: int) -> int:
    """Count the samples of an epoch of so many training images."""
    repeated = recipe.repeated_augmentation
    return repeated_length(images, devices=recipe.devices, round_to=repeated.round_to) if repeated else images


def architecture_of(recipe: Recipe, num_classes: int) -> Architecture:
    """Return the recipe's net with this many classes."""
    return replace(find_architecture(recipe.model), num_classes=num_classes)
